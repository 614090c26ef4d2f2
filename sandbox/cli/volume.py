"""`sbx volume create|ls|inspect|rm|prune`: directories that outlive containers."""

from __future__ import annotations

import json
import re

from sandbox.cli.confirm import confirmed
from sandbox.cli.each import for_each, open_containers
from sandbox.cli.filters import parse_filters
from sandbox.cli.formatting import (
    FILTER,
    FORMAT,
    QUIET,
    Listing,
    print_line,
    print_listing,
    print_object,
)
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine import volumes
from sandbox.engine.context import Context
from sandbox.engine.times import rfc3339
from sandbox.engine.volumes import Volume
from sandbox.errors import UsageError

_HEADINGS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
}
_WARNING = "WARNING! This will remove "


def create(arguments: Arguments, context: Context) -> int:
    name = arguments.positionals[0]
    volumes.create_volume(name, context.paths)
    print(name)
    return 0


def list_volumes(arguments: Arguments, context: Context) -> int:
    filters = parse_filters(arguments.texts("filter"), ("name", "dangling"))
    found = [volume for volume in volumes.volumes(context.paths) if _selected(volume, filters)]
    listing = Listing(_HEADINGS, ("Driver", "Name"), quiet="Name")
    rows = [_shape(volume) for volume in found]
    print_listing(listing, rows, arguments.text("format"), quiet=arguments.flag("quiet"))
    return 0


def _selected(volume: Volume, filters: dict[str, list[str]]) -> bool:
    dangling = filters.get("dangling", [])
    if any(value not in ("true", "false", "1", "0") for value in dangling):
        raise UsageError("invalid filter: dangling is true or false")
    names = filters.get("name", [])
    return all((value in ("true", "1")) == (not volume.users) for value in dangling) and (
        not names or any(re.search(re.escape(name), volume.name) for name in names)
    )


def _shape(volume: Volume) -> dict[str, object]:
    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": "local",
        "Labels": {},
        "Mountpoint": str(volume.data),
        "Name": volume.name,
        "Options": {},
        "Scope": "local",
    }


def inspect(arguments: Arguments, context: Context) -> int:
    found: list[dict[str, object]] = []

    def one(name: str) -> None:
        found.append(_shape(volumes.find_volume(name, context.paths)))

    code = for_each(arguments.positionals, one)
    form = arguments.text("format")
    if form is None:
        print_line(json.dumps(found, indent=4, ensure_ascii=False))
        return code
    for value in found:
        print_object(value, form)
    return code


def remove(arguments: Arguments, context: Context) -> int:
    open_containers(context)
    force = arguments.flag("force")

    def one(name: str) -> None:
        volumes.remove_volume(name, context.paths)
        print(name)

    return for_each(arguments.positionals, one, forgive_missing=force)


def prune(arguments: Arguments, context: Context) -> int:
    every = arguments.flag("all")
    what = "all volumes" if every else "anonymous volumes"
    question = f"{_WARNING}{what} not used by at least one container."
    if not arguments.flag("force") and not confirmed(question):
        return 0
    open_containers(context)
    unused = [v.name for v in volumes.volumes(context.paths) if not v.users]

    def one(name: str) -> None:
        volumes.remove_volume(name, context.paths)
        print(name)

    return for_each([name for name in unused if every or _is_anonymous(name)], one)


def _is_anonymous(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


CREATE = Command(
    name="volume create",
    arguments="VOLUME",
    summary="Create a volume",
    run=create,
    at_least=1,
    at_most=1,
    examples=(Example("sbx run --rm -v data:/data host ls /data", "Volumes are also made by -v"),),
)
LS = Command(
    name="volume ls",
    arguments="",
    summary="List volumes",
    run=list_volumes,
    options=(FILTER, FORMAT, QUIET),
    at_most=0,
)
INSPECT = Command(
    name="volume inspect",
    arguments="VOLUME [VOLUME...]",
    summary="Show all that is known of volumes",
    run=inspect,
    options=(Option("format", "Format output: 'json' or a Go template", "f", "value"),),
    at_least=1,
    completion="volume",
)
RM = Command(
    name="volume rm",
    arguments="VOLUME [VOLUME...]",
    summary="Remove one or more volumes",
    run=remove,
    options=(Option("force", "Do not mind volumes that are not there", short="f"),),
    at_least=1,
    completion="volume",
)
PRUNE = Command(
    name="volume prune",
    arguments="",
    summary="Remove unused volumes",
    run=prune,
    options=(
        Option("all", "Remove named volumes as well, not just anonymous ones", short="a"),
        Option("force", "Do not prompt for confirmation", short="f"),
    ),
    at_most=0,
)

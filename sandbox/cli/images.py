"""`sbx images`: the images, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.cli import human
from sandbox.cli.formatting import FILTER, FORMAT, NO_TRUNC, QUIET, Listing, print_listing
from sandbox.cli.image_filters import glob, image_filter
from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.image.image import Image
from sandbox.image.reference import parse_reference

_NONE = "<none>"
HEADINGS: dict[str, Any] = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}


def run(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    selects = image_filter(arguments.texts("filter"), store)
    images = [image for image in store.list() if selects(image)]
    if arguments.flag("all") and not arguments.texts("filter"):
        images.append(store.builtin())
    wanted = arguments.positionals[0] if arguments.positionals else None
    truncate = not arguments.flag("no-trunc")
    rows = [r for image in images for r in _rows(image, wanted, truncate=truncate)]
    shown = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if arguments.flag("digests"):
        shown.insert(2, "Digest")
    quiet = arguments.flag("quiet")
    if quiet:
        rows = list({row["ID"]: row for row in rows if row["ID"] != _NONE}.values())
    print_listing(Listing(HEADINGS, shown), rows, arguments.text("format"), quiet=quiet)
    return 0


def _rows(image: Image, wanted: str | None, *, truncate: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each name that is *wanted*; one for an image without a name."""
    if image.builtin:
        if wanted in (None, image.names[0]):
            yield _row(image, image.names[0], "built in", truncate=truncate)
    elif not image.names and wanted is None:
        yield _row(image, _NONE, _NONE, truncate=truncate)
    else:
        matches = (lambda name: True) if wanted is None else glob(wanted)
        for name in image.names:
            if matches(name):
                reference = parse_reference(name)
                repository = reference.familiar_name
                yield _row(image, repository, reference.tag or _NONE, truncate=truncate)


def _row(image: Image, repository: str, tag: str, *, truncate: bool) -> dict[str, Any]:
    size = human.size(image.size)
    created = image.created
    image_id = image.id.removeprefix("sha256:")[:12] if truncate else image.id
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": image.digest or _NONE,
        "ID": image_id or _NONE,
        "CreatedSince": "N/A" if created is None else human.ago(created),
        "CreatedAt": "N/A" if created is None else human.timestamp(created),
        "Size": size,
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "VirtualSize": size,
    }


COMMAND = Command(
    name="images",
    arguments="[REPOSITORY[:TAG]]",
    summary="List images",
    run=run,
    options=(
        Option("all", "Also show the image that is built in: host", short="a"),
        Option("digests", "Show digests"),
        QUIET,
        FILTER,
        FORMAT,
        NO_TRUNC,
    ),
    at_most=1,
    completion="image",
    examples=(
        Example("sbx images --filter dangling=true", "Images that lost their name"),
        Example("sbx images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "Your own columns"),
    ),
)

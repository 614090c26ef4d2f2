"""`sbx inspect`: all that is known, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from sandbox.cli.each import open_containers
from sandbox.cli.formatting import print_line
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.containers import with_denials
from sandbox.engine.context import Context
from sandbox.engine.inspection import inspect
from sandbox.errors import NotFound, SbxError
from sandbox.state import Containers


def run(arguments: Arguments, context: Context) -> int:
    containers = open_containers(context)
    found: list[dict[str, Any]] = []
    code = 0
    for reference in arguments.positionals:
        try:
            found.append(_find(reference, arguments.text("type"), containers, context))
        except SbxError as err:
            print(err.describe(), file=sys.stderr)
            code = 1
    _print(found, arguments.text("format"))
    return code


def _find(
    reference: str, kind: str | None, containers: Containers, context: Context
) -> dict[str, Any]:
    if kind != "image":
        try:
            return inspect(with_denials(containers.find(reference), context))
        except NotFound:
            if kind == "container":
                raise
    try:
        return _image(reference, context)
    except NotFound:
        if kind == "image":
            raise
        raise NotFound(f"no such object: {reference}", hint="sbx ps -a; sbx images") from None


def _image(reference: str, context: Context) -> dict[str, Any]:
    from sandbox.engine.images import inspect_image

    return inspect_image(reference, context)


def _print(found: list[dict[str, Any]], form: str | None) -> None:
    if form is None:
        text = json.dumps(found, indent=4, ensure_ascii=False)
        print_line(text)
        return
    from sandbox.cli.formatting import print_object

    for value in found:
        print_object(_with_string_maps(value), form)


def _with_string_maps(value: dict[str, Any]) -> dict[str, Any]:
    """Let a template ask for labels that are not there, as in docker."""
    from sandbox.cli.templates import StringMap

    config = value.get("Config")
    if isinstance(config, dict) and isinstance(config.get("Labels"), dict):
        config["Labels"] = StringMap(config["Labels"])
    return value


COMMAND = Command(
    name="inspect",
    arguments="NAME|ID [NAME|ID...]",
    summary="Show all that is known of containers or images",
    run=run,
    options=(
        Option("format", "Format output: 'json' or a Go template", "f", "value"),
        Option("type", "Only look for this", kind="value", choices=("container", "image")),
        Option("size", "Display total file sizes", short="s", hidden=True),
    ),
    at_least=1,
    completion="container",
    examples=(
        Example("sbx inspect -f '{{.State.ExitCode}}' job", "One value"),
        Example("sbx inspect -f '{{json .Sbx.Denials}}' job", "What seccomp denied"),
    ),
)

"""`sbx rename`: another name for a container."""

from __future__ import annotations

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    reference, name = arguments.positionals
    containers = open_containers(context)
    containers.rename(containers.find(reference), name)
    return 0


COMMAND = Command(
    name="rename",
    arguments="CONTAINER NEW_NAME",
    summary="Rename a container",
    run=run,
    at_least=2,
    at_most=2,
    completion="container",
    examples=(Example("sbx rename web web-old", "Make room for a new one"),),
)

"""`sbx pause`: hold all processes of containers still."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    return for_each_container(
        arguments.positionals, context, lambda container: containers.pause(container, context)
    )


COMMAND = Command(
    name="pause",
    arguments="CONTAINER [CONTAINER...]",
    summary="Pause all processes within one or more containers",
    run=run,
    at_least=1,
    completion="container",
    examples=(Example("sbx pause job", "Until sbx unpause"),),
)

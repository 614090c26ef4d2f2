"""`sbx unpause`: let paused containers go on."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    return for_each_container(
        arguments.positionals, context, lambda container: containers.unpause(container, context)
    )


COMMAND = Command(
    name="unpause",
    arguments="CONTAINER [CONTAINER...]",
    summary="Unpause all processes within one or more containers",
    run=run,
    at_least=1,
    completion="container",
    examples=(Example("sbx unpause job", "It goes on where it was"),),
)

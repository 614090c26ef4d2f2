"""`sbx wait`: until containers have ended."""

from __future__ import annotations

from sandbox.cli.each import for_each, open_containers
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    known = open_containers(context)

    def wait(reference: str) -> None:
        print(containers.wait(known.find(reference), context), flush=True)

    return for_each(arguments.positionals, wait)


COMMAND = Command(
    name="wait",
    arguments="CONTAINER [CONTAINER...]",
    summary="Block until containers stop, then print their exit codes",
    run=run,
    at_least=1,
    completion="container",
    examples=(Example("sbx wait job", "Wait for a detached container"),),
)

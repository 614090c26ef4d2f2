"""`sbx restart`: stop containers and start them."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.cli.stop import STOP_OPTIONS, how_to_stop
from sandbox.engine.context import Context
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.start import restart

    timeout, number = how_to_stop(arguments)

    def again(container: Container) -> None:
        restart(container, context, timeout, number)

    return for_each_container(arguments.positionals, context, again)


COMMAND = Command(
    name="restart",
    arguments="CONTAINER [CONTAINER...]",
    summary="Restart one or more containers",
    run=run,
    options=STOP_OPTIONS,
    at_least=1,
    completion="container",
    examples=(Example("sbx restart -t 2 web", "With two seconds to end"),),
)

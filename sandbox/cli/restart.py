"""`sbx restart`: stop containers and start them."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.cli.stop import stop_timeout
from sandbox.engine.context import Context
from sandbox.engine.signals import parse_signal
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.start import restart

    given = arguments.text("timeout") or arguments.text("time")
    timeout = None if given is None else stop_timeout(given)
    signal = arguments.text("signal")
    number = None if signal is None else parse_signal(signal)

    def again(container: Container) -> None:
        restart(container, context, timeout, number)

    return for_each_container(arguments.positionals, context, again)


COMMAND = Command(
    name="restart",
    arguments="CONTAINER [CONTAINER...]",
    summary="Restart one or more containers",
    run=run,
    options=(
        Option("signal", "Signal to send to the container", "s", "value", completion="signal"),
        Option("timeout", "Seconds to wait before killing the container", "t", "value", "int"),
        Option("time", "The same as --timeout", kind="value", metavar="int", hidden=True),
    ),
    at_least=1,
    completion="container",
    examples=(Example("sbx restart -t 2 web", "With two seconds to end"),),
)

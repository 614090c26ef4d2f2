"""`sbx stop`: ask containers to end, and make them after a while."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.engine.signals import parse_signal
from sandbox.engine.sizes import parse_duration
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    timeout, number = how_to_stop(arguments)

    def stop(container: Container) -> None:
        containers.stop(container, context, timeout, number)

    return for_each_container(arguments.positionals, context, stop)


def how_to_stop(arguments: Arguments) -> tuple[float | None, int | None]:
    """Return the seconds and the signal that `STOP_OPTIONS` were given; None: the container's."""
    given = arguments.text("timeout") or arguments.text("time")
    signal = arguments.text("signal")
    return (
        None if given is None else stop_timeout(given),
        None if signal is None else parse_signal(signal),
    )


def stop_timeout(text: str) -> float:
    """Return the seconds of --timeout; -1 waits for ever."""
    return -1.0 if text == "-1" else parse_duration(text, "timeout")


STOP_OPTIONS = (
    Option("signal", "Signal to send to the container", "s", "value", completion="signal"),
    Option("timeout", "Seconds to wait before killing the container", "t", "value", "int"),
    Option("time", "The same as --timeout", kind="value", metavar="int", hidden=True),
)

COMMAND = Command(
    name="stop",
    arguments="CONTAINER [CONTAINER...]",
    summary="Stop one or more running containers",
    run=run,
    options=STOP_OPTIONS,
    at_least=1,
    completion="container",
    examples=(Example("sbx stop $(sbx ps -q)", "Stop all running containers"),),
)

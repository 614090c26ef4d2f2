"""`sbx kill`: send a signal to containers."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.engine.signals import parse_signal
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    number = parse_signal(arguments.text("signal") or "KILL")

    def kill(container: Container) -> None:
        containers.kill(container, number, context)

    return for_each_container(arguments.positionals, context, kill)


COMMAND = Command(
    name="kill",
    arguments="CONTAINER [CONTAINER...]",
    summary="Kill one or more running containers",
    run=run,
    options=(Option("signal", "Signal to send (default KILL)", "s", "value", completion="signal"),),
    at_least=1,
    completion="container",
    examples=(Example("sbx kill --signal HUP web", "Let a server read its configuration again"),),
)

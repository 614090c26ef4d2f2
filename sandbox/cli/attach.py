"""`sbx attach`: the streams of a running container, here."""

from __future__ import annotations

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.attach import attach

    return attach(
        open_containers(context).find(arguments.positionals[0]),
        context,
        stdin=not arguments.flag("no-stdin"),
        proxy_signals=arguments.flag_or_none("sig-proxy") is not False,
    )


COMMAND = Command(
    name="attach",
    arguments="CONTAINER",
    summary="Attach to a running container's input and output",
    run=run,
    options=(
        Option("no-stdin", "Do not attach STDIN"),
        Option("sig-proxy", "Proxy all received signals to the process (default true)"),
    ),
    at_least=1,
    at_most=1,
    completion="container",
    description="Ctrl-P Ctrl-Q leaves a container that has a terminal. What it printed before is "
    "in its log (sbx logs).",
    examples=(Example("sbx run -dit --name sh host bash && sbx attach sh", "Come back to it"),),
)

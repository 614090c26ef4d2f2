"""`sbx rm`: remove containers, and with --volumes what only they used."""

from __future__ import annotations

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers, volumes

    force = arguments.flag("force")

    def remove(container: Container) -> None:
        containers.remove(container, context, force=force)
        if arguments.flag("volumes"):
            volumes.remove_anonymous(container.spec, context.paths)

    return for_each_container(arguments.positionals, context, remove, forgive_missing=force)


COMMAND = Command(
    name="rm",
    arguments="CONTAINER [CONTAINER...]",
    summary="Remove one or more containers",
    run=run,
    options=(
        Option("force", "Kill containers that are running", short="f"),
        Option("volumes", "Remove anonymous volumes associated with the container", short="v"),
    ),
    at_least=1,
    completion="container",
    examples=(Example("sbx rm -f $(sbx ps -aq)", "Remove all containers"),),
)

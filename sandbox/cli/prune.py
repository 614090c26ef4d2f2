"""`sbx container prune`: remove the containers that have ended."""

from __future__ import annotations

from sandbox.cli.confirm import confirmed
from sandbox.cli.each import for_each, open_containers
from sandbox.cli.parser import Arguments, Command, Option
from sandbox.engine.context import Context

_WARNING = "WARNING! This will remove all stopped containers."


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    if not arguments.flag("force") and not confirmed(_WARNING):
        return 0
    known = open_containers(context)
    stopped = [c.spec.id for c in known.all() if not c.running]

    def remove(container_id: str) -> None:
        containers.remove(known.find(container_id), context)
        print(container_id)

    return for_each(stopped, remove)


COMMAND = Command(
    name="container prune",
    arguments="",
    summary="Remove all stopped containers",
    run=run,
    options=(Option("force", "Do not prompt for confirmation", short="f"),),
    at_most=0,
)

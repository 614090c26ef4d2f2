"""`sbx update`: other limits for containers, running or not."""

from __future__ import annotations

from typing import Any

from sandbox.cli.each import for_each_container
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.cli.run_options import OPTIONS
from sandbox.engine import options as engine_options
from sandbox.engine import sizes
from sandbox.engine.context import Context
from sandbox.errors import UsageError

_NAMES = ("memory", "memory-swap", "cpus", "cpuset-cpus", "pids-limit")


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    changes = _changes(arguments)
    if not changes:
        raise UsageError("nothing to change was given", hint="sbx update --help")
    return for_each_container(
        arguments.positionals,
        context,
        lambda container: containers.update(container, changes, context),
    )


def _changes(arguments: Arguments) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if (text := arguments.text("memory")) is not None:
        changes["memory"] = sizes.parse_size(text, "memory")
    if (text := arguments.text("memory-swap")) is not None:
        changes["memory_swap"] = sizes.parse_memory_swap(text)
    if (text := arguments.text("cpus")) is not None:
        changes["cpus"] = sizes.parse_cpus(text)
    if (text := arguments.text("cpuset-cpus")) is not None:
        changes["cpuset_cpus"] = sizes.parse_cpuset(text)
    if (text := arguments.text("pids-limit")) is not None:
        pids = engine_options.parse_pids(text)
        changes["pids"] = pids if pids > 0 else None
    return changes


COMMAND = Command(
    name="update",
    arguments="CONTAINER [CONTAINER...]",
    summary="Update the limits of one or more containers",
    run=run,
    options=tuple(option for option in OPTIONS if option.name in _NAMES),
    at_least=1,
    completion="container",
    description="Of a running container at once, which takes a cgroup; of a stopped one from its "
    "next start on.",
    examples=(Example("sbx update --memory 1g --cpus 2 job", "More for a job that runs"),),
)

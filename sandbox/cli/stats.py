"""`sbx stats`: what containers use."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from sandbox.cli import human
from sandbox.cli.each import open_containers
from sandbox.cli.formatting import FORMAT, NO_TRUNC, Listing, print_listing
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.state import Container

_HEADINGS: dict[str, Any] = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_SHOWN = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
# Between the two looks that the use of processors is the difference of.
_SECONDS = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_NOT_COUNTED = "--"

Sample = tuple[float, dict[str, Any] | None]


def run(arguments: Arguments, context: Context) -> int:
    before = _samples(_chosen(arguments, context), context)
    while True:
        time.sleep(_SECONDS)
        chosen = _chosen(arguments, context)
        now = _samples(chosen, context)
        rows = [_row(c, before.get(c.spec.id), now[c.spec.id], arguments) for c in chosen]
        live = not arguments.flag("no-stream")
        if live and os.isatty(1):
            print(_HOME_AND_CLEAR, end="")
        print_listing(Listing(_HEADINGS, _SHOWN), rows, arguments.text("format"))
        sys.stdout.flush()
        if not live:
            return 0
        before = now


def _chosen(arguments: Arguments, context: Context) -> list[Container]:
    known = open_containers(context)
    if arguments.positionals:
        return [known.find(reference) for reference in arguments.positionals]
    found = sorted(known.all(), key=lambda container: -container.spec.created)
    return [c for c in found if c.running or arguments.flag("all")]


def _samples(chosen: Iterable[Container], context: Context) -> dict[str, Sample]:
    from sandbox.engine import containers

    return {
        c.spec.id: (time.monotonic(), containers.usage(c, context) if c.running else None)
        for c in chosen
    }


def _row(
    container: Container, before: Sample | None, now: Sample, arguments: Arguments
) -> dict[str, Any]:
    used = now[1] or {}
    limit = used.get("memory_limit") or _total_memory()
    memory = used.get("memory")
    container_id = container.spec.id
    return {
        "ID": container_id if arguments.flag("no-trunc") else container_id[:12],
        "Container": container.spec.name,
        "Name": container.spec.name,
        "CPUPerc": _cpu(before, now),
        "MemUsage": f"{_binary(memory)} / {_binary(limit if used else None)}",
        "MemPerc": _NOT_COUNTED if memory is None else f"{100 * memory / limit:.2f}%",
        "NetIO": _pair(used.get("net_received"), used.get("net_sent")),
        "BlockIO": _pair(used.get("block_read"), used.get("block_written")),
        "PIDs": str(used.get("pids", _NOT_COUNTED)),
    }


def _cpu(before: Sample | None, now: Sample) -> str:
    if before is None or before[1] is None or now[1] is None:
        return _NOT_COUNTED
    # Without a cgroup a process that ends may take its time out of the sum.
    used = max(now[1]["cpu_usec"] - before[1]["cpu_usec"], 0)
    return f"{used / 1e4 / (now[0] - before[0]):.2f}%"


def _pair(one: int | None, other: int | None) -> str:
    if one is None or other is None:
        return _NOT_COUNTED
    return f"{human.size(one)} / {human.size(other)}"


def _binary(count: int | None) -> str:
    """Return `1.5MiB`, as docker shows memory."""
    if count is None:
        return _NOT_COUNTED
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    unit = 0
    while value >= 1024 and unit < len(units) - 1:
        value /= 1024
        unit += 1
    return f"{value:.4g}{units[unit]}"


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


COMMAND = Command(
    name="stats",
    arguments="[CONTAINER...]",
    summary="Display what containers use of the machine",
    run=run,
    options=(
        Option("all", "Show all containers (default shows just running)", short="a"),
        FORMAT,
        Option("no-stream", "Print the first result and end"),
        NO_TRUNC,
    ),
    completion="container",
    description="With a cgroup what the kernel counts. Without one the sum over the container's "
    "processes: memory that they share with files is not in it, and what a process that has ended "
    "read or wrote is forgotten.",
    examples=(Example("sbx stats --no-stream", "Once"),),
)

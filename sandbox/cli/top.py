"""`sbx top`: the processes of a container, by the host's ps(1)."""

from __future__ import annotations

import subprocess

from sandbox.cli.each import open_containers
from sandbox.cli.formatting import print_line
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context
from sandbox.errors import Unavailable, UsageError


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers

    reference, *options = arguments.positionals
    container = open_containers(context).find(reference)
    pids = set(containers.processes(container, context))
    heading, *lines = _ps(options or ["-ef"])
    names = heading.split()
    if "PID" not in names:
        raise UsageError("these options of ps show no PID column", hint="add pid: -o pid,comm")
    column = names.index("PID")
    print_line(heading)
    for line in lines:
        fields = line.split(maxsplit=column + 1)
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            print_line(line)
    return 0


def _ps(options: list[str]) -> list[str]:
    try:
        result = subprocess.run(
            ["ps", *options], stdin=subprocess.DEVNULL, capture_output=True, errors="replace"
        )
    except FileNotFoundError:
        raise Unavailable("ps is not installed", hint="install procps") from None
    lines = result.stdout.splitlines()
    if result.returncode != 0 or not lines:
        raise UsageError("ps failed", detail=result.stderr.strip().partition("\n")[0] or None)
    return lines


COMMAND = Command(
    name="top",
    arguments="CONTAINER [ps OPTIONS]",
    summary="Display the running processes of a container",
    run=run,
    at_least=1,
    interspersed=False,
    completion="container",
    description="Users and pids are those of the host.",
    examples=(Example("sbx top web -o pid,pcpu,args", "With ps's own columns"),),
)

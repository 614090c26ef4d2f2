"""`sbx version`: what is installed."""

from __future__ import annotations

import os
import sys

from sandbox import __version__
from sandbox.cli.formatting import FORMAT, print_object
from sandbox.cli.parser import Arguments, Command, Option
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    if arguments.flag("short"):
        print(f"sbx version {__version__}")
        return 0
    versions = _versions()
    template = arguments.text("format")
    if template:
        print_object(versions, template)
        return 0
    for name, value in versions.items():
        print(f"{name + ':':<10} {value}")
    return 0


def _versions() -> dict[str, str]:
    machine = os.uname()
    return {
        "Version": __version__,
        "Python": ".".join(str(part) for part in sys.version_info[:3]),
        "Kernel": machine.release,
        "Os": machine.sysname.lower(),
        "Arch": machine.machine,
    }


COMMAND = Command(
    name="version",
    arguments="",
    summary="Show the version",
    run=run,
    options=(FORMAT, Option("short", "One line", hidden=True)),
    at_most=0,
)

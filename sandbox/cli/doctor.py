"""`sbx doctor`: what this machine has of what sbx needs, and the command that mends the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from msgspec import structs

from sandbox.cli.formatting import FORMAT, Listing, print_listing
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.doctor.check import Check
from sandbox.engine.context import Context

_LISTING = Listing(
    {
        "State": "STATE",
        "Name": "CHECK",
        "Found": "FOUND",
        "Matters": "MATTERS",
        "Mend": "MEND",
    },
    ("State", "Name", "Found"),
    quiet="State",
)
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.doctor.checks import run_all

    checks = run_all(context.paths, context.environ)
    if not arguments.flag("quiet"):
        if form := arguments.text("format"):
            print_listing(_LISTING, map(_row, checks), form)
        else:
            _print(checks, context)
    return int(any(check.state == "fail" for check in checks))


def _row(check: Check) -> dict[str, str]:
    return {key.capitalize(): value for key, value in structs.asdict(check).items()}


def _print(checks: Sequence[Check], context: Context) -> None:
    lines = [line for check in checks for line in _lines(check)]
    if os.isatty(1) and not context.environ.get("NO_COLOR"):
        _print_coloured(lines)
        return
    for _, line in lines:
        print(line)


def _lines(check: Check) -> list[tuple[str, str]]:
    """Return (state or "", text) per line: the result, then why it matters and what mends it."""
    lines: list[tuple[str, str]] = [
        (check.state, f"{check.state:<5} {check.name:<21} {check.found}")
    ]
    if check.state != "ok":
        indent = " " * 6
        if check.matters:
            lines.append(("", f"{indent}why: {check.matters}"))
        for number, command in enumerate(check.mend.splitlines()):
            lines.append(("", f"{indent}{'mend:' if number == 0 else '     '} {command}"))
    return lines


def _print_coloured(lines: Sequence[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for state, line in lines:
        text = Text(line)
        if state:
            text.stylize(_COLOURS[state], 0, len(state))
        console.print(text)


COMMAND = Command(
    name="doctor",
    arguments="",
    summary="Check this machine, say what mends it",
    run=run,
    options=(FORMAT, Option("quiet", "Print nothing: the exit code tells", short="q")),
    at_most=0,
    description=(
        "Look at everything sbx needs of this machine, try what can be tried without a trace, and"
        " print the command that mends what is missing. The exit code is 1 when containers can't"
        " run, 0 also where something is only weaker or refused."
    ),
    examples=(
        Example("sbx doctor", "All checks"),
        Example("sbx doctor --format json", "For a program, one object per line"),
    ),
)

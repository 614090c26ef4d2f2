"""The reference part of docs/cli.md, from the same data as the help.

`python -m sandbox.cli.reference docs/cli.md` brings the document up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox.cli.commands import ALIASES, COMMANDS
from sandbox.cli.main import load
from sandbox.cli.parser import Command, Option

BEGIN = "<!-- from the commands' own data: python -m sandbox.cli.reference docs/cli.md -->\n"


def reference() -> str:
    """Return the reference of all commands as Markdown."""
    parts = [BEGIN]
    for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
        parts.append(f"### {section or 'More'}\n")
        parts += [_command(load(n)) for n, entry in COMMANDS.items() if entry.section == section]
    aliases = ", ".join(f"`{alias}` is `{name}`" for alias, name in sorted(ALIASES.items()))
    parts.append(f"### Other names\n\n{aliases}.\n")
    return "\n".join(parts)


def _command(command: Command) -> str:
    parts = [f"#### `{command.usage}`\n", f"{command.summary}.\n"]
    if command.description:
        parts.append(f"{command.description}\n")
    options = [option for option in command.options if not option.hidden]
    if options:
        rows = [_row(option) for option in sorted(options, key=lambda option: option.name)]
        parts.append("\n".join(["| option | meaning |", "| --- | --- |", *rows, ""]))
    if command.examples:
        lines = [f"# {example.meaning}\n{example.line}" for example in command.examples]
        parts.append("```sh\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _row(option: Option) -> str:
    value = "" if option.kind == "flag" else f" {'|'.join(option.choices) or option.metavar}"
    names = f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"
    return f"| `{_cell(names + value)}` | {_cell(option.help)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def updated(document: str) -> str:
    """Return *document* with its reference part made anew."""
    head, _, _ = document.partition(BEGIN)
    return head + reference()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(updated(path.read_text()))

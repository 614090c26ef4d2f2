"""Help texts, from the table of commands and the options' data."""

from __future__ import annotations

import os

from sandbox.cli.commands import COMMANDS, GROUPS
from sandbox.cli.parser import Command, Option

_INTRODUCTION = """\
Usage:  sbx [OPTIONS] COMMAND

Run untrusted code in rootless containers, with docker's command line
"""

_GLOBAL_OPTIONS = """\
Options:
  -D, --debug     Show the plan of what is done
  -h, --help      Print usage
  -v, --version   Print version information and quit
"""


def overview() -> str:
    """Return the text of `sbx --help`."""
    parts = [_INTRODUCTION]
    for section in dict.fromkeys(entry.section for entry in COMMANDS.values() if entry.section):
        rows = [(name, e.summary) for name, e in COMMANDS.items() if e.section == section]
        parts.append(f"{section}:\n{_columns(rows)}\n")
    parts += [_GLOBAL_OPTIONS, "Run 'sbx COMMAND --help' for more information on a command."]
    return "\n".join(parts)


def group_overview(group: str) -> str:
    """Return the text of `sbx GROUP --help` for `container`, `profile` …"""
    from sandbox.cli.commands import ALIASES

    assert group in GROUPS
    summaries = {name: entry.summary for name, entry in COMMANDS.items()}
    summaries |= {alias: COMMANDS[name].summary for alias, name in ALIASES.items()}
    rows = [(n.split()[1], s) for n, s in sorted(summaries.items()) if n.startswith(f"{group} ")]
    return "\n".join(
        [
            f"Usage:  sbx {group} COMMAND\n",
            f"Commands:\n{_columns(rows)}\n",
            f"Run 'sbx {group} COMMAND --help' for more information on a command.",
        ]
    )


def command_help(command: Command) -> str:
    """Return the text of `sbx COMMAND --help`."""
    parts = [f"Usage:  {command.usage}\n", f"{command.summary}\n"]
    if command.description:
        parts.append(f"{command.description}\n")
    visible = [option for option in command.options if not option.hidden]
    if visible:
        parts.append(f"Options:\n{option_table(visible)}\n")
    if command.examples:
        examples = "\n".join(f"  # {e.meaning}\n  {e.line}" for e in command.examples)
        parts.append(f"Examples:\n{examples}\n")
    return "\n".join(parts).rstrip("\n")


def option_table(options: list[Option]) -> str:
    """Return the options as aligned lines, sorted by name as docker does."""
    rows = [(_option_head(o), _option_text(o)) for o in sorted(options, key=lambda o: o.name)]
    return _columns(rows)


def _option_head(option: Option) -> str:
    head = f"-{option.short}, --{option.name}" if option.short else f"    --{option.name}"
    return head if option.kind == "flag" else f"{head} {option.metavar}"


def _option_text(option: Option) -> str:
    if not option.choices:
        return option.help
    return f"{option.help} ({'|'.join(option.choices)})"


def _columns(rows: list[tuple[str, str]]) -> str:
    first = max(len(row[0]) for row in rows)
    indent = first + 5
    room = max(_width() - indent, 30)
    lines = []
    for head, text in rows:
        wrapped = _wrap(text, room)
        lines.append(f"  {head:<{first}}   {wrapped[0]}")
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join(lines)


def _wrap(text: str, room: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _width() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 100  # a pipe: the same text wherever it goes

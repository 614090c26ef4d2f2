"""What the completion scripts have in common."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from sandbox.cli.parser import Command, Option

# Commands that print the candidates, one a line.
SOURCES = {
    "container": "sbx ps -a --format '{{.Names}}' 2>/dev/null",
    "image": "sbx images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null; echo host",
    "volume": "sbx volume ls -q 2>/dev/null",
    "profile": "sbx profile ls -q 2>/dev/null",
    "signal": "printf '%s\\n' HUP INT QUIT KILL USR1 USR2 TERM CONT STOP TSTP WINCH",
}


class Completed(Struct, frozen=True):
    """A command under one of its names."""

    name: str  # "run", "container run"
    command: Command

    @property
    def options(self) -> list[Option]:
        return [option for option in self.command.options if not option.hidden]


def first_words(commands: Iterable[Completed]) -> list[str]:
    """Return what may stand right after `sbx`."""
    return sorted({entry.name.split()[0] for entry in commands} | {"help"})


def second_words(commands: Iterable[Completed]) -> dict[str, list[str]]:
    """Return, for each group, what may stand after it."""
    groups: dict[str, list[str]] = {}
    for entry in commands:
        group, _, word = entry.name.partition(" ")
        if word:
            groups.setdefault(group, []).append(word)
    return groups

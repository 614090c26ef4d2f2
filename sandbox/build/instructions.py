"""A Dockerfile's instructions as frozen data, as they are written: nothing is expanded yet."""

from __future__ import annotations

from msgspec import Struct


class Heredoc(Struct, frozen=True):
    """A here-document: its delimiter, its text, and how the text is to be read."""

    name: str
    content: str
    expand: bool = True  # variables are; not with a quoted delimiter
    chomp: bool = False  # leading tabs go (<<-)

    @property
    def text(self) -> str:
        """Return the content, without leading tabs where these don't count."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


class Instruction(Struct, frozen=True):
    """One instruction."""

    word: str  # "RUN"
    values: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()  # "--from=x"
    json: bool = False  # the values were a JSON array
    heredocs: tuple[Heredoc, ...] = ()
    line: int = 0  # the first and the last line in the Dockerfile, counted from 1
    end: int = 0
    original: str = ""  # in one line, as written


class Dockerfile(Struct, frozen=True):
    """A whole Dockerfile."""

    name: str  # for messages
    instructions: tuple[Instruction, ...]
    lines: tuple[str, ...]
    escape: str = "\\"

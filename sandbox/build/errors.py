"""What goes wrong in a build, at which line of the Dockerfile."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.errors import SbxError

_AROUND = 2  # lines shown before and after those in question
_MOST_SHOWN = 12


class BuildError(SbxError):
    """The build failed. Exit code 1, as docker's."""

    exit_code = 1


class InstructionError(BuildError):
    """An instruction is wrong or failed; *line* to *end* are its lines in the Dockerfile."""

    def __init__(
        self,
        message: str,
        line: int = 0,
        end: int = 0,
        *,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.line = line
        self.end = max(end, line)


def excerpt(lines: Sequence[str], line: int, end: int) -> str:
    """Return the lines around *line* to *end* (counted from 1) as BuildKit shows them.

    Lines of the instruction in question are marked with `>>>`.
    """
    last = min(end, line + _MOST_SHOWN)
    shown = range(max(line - _AROUND, 1), min(last + _AROUND, len(lines)) + 1)
    rows = []
    for number in shown:
        mark = ">>>" if line <= number <= end else "   "
        rows.append(f"{number:4} | {mark} {lines[number - 1]}".rstrip())
    bar = "-" * 20
    return "\n".join([bar, *rows, bar])

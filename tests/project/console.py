"""Examples in documents: blocks marked ``console``, with commands and what they print.

    $ command          run by bash; "> " continues it on further lines
    output             what must come, standard output and error together
    ...                any number of lines; inside a line, any text

The commands of one block are run by one shell. A block that must not be run is marked otherwise
(``sh``, ``text``).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY = "..."


@dataclass(frozen=True, slots=True)
class Example:
    """One command and the output that the document shows; *line* is the command's."""

    command: str
    output: tuple[str, ...]
    line: int


def blocks(document: str) -> Iterator[tuple[Example, ...]]:
    """The examples of *document*, block by block."""
    for block in _BLOCK.finditer(document):
        first = document.count("\n", 0, block.start(1)) + 1
        yield tuple(_examples(block[1].splitlines(), first))


def _examples(lines: Sequence[str], first: int) -> Iterator[Example]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    if starts[:1] != [0]:
        raise ValueError(f"line {first}: a console block begins with a command ($ …)")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        command = [lines[start].removeprefix("$ ")]
        rest = start + 1
        while rest < end and lines[rest].startswith("> "):
            command.append(lines[rest].removeprefix("> "))
            rest += 1
        yield Example("\n".join(command), tuple(lines[rest:end]), first + start)


def matches(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Whether *actual* is what *expected*, with its wildcards, describes."""
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == _ANY else _line_pattern(line) for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in actual)) is not None


def _line_pattern(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.rstrip().split(_ANY)) + r"\n"


def run_block(
    examples: Sequence[Example], environ: Mapping[str, str], cwd: Path, timeout: float = 300
) -> list[list[str]]:
    """Run the commands of one block; the lines that each of them printed."""
    end = f"--end-of-output-{os.getpid()}--"
    script = "".join(
        # The status is kept for a next command that asks for $?.
        f"{example.command}\n_s=$?; printf '\\n%s\\n' '{end}'; (exit $_s)\n"
        for example in examples
    )
    shell = subprocess.run(
        ["bash", "-c", script],
        env=environ,
        cwd=cwd,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    outputs = shell.stdout.split(f"\n{end}\n")
    return [output.splitlines() for output in outputs[: len(examples)]]

"""Dockerfiles, read by BuildKit's own parser (the package `dockerfile`, a binding to it).

The binding brings Go's runtime along, whose threads would make unshare(CLONE_NEWUSER) and safe
forks impossible in this process: it is loaded in a child alone. What it lacks is added here: which
here-documents are expanded, and the line of an error.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from typing import Any, NoReturn

from sandbox.build.errors import BuildError, InstructionError
from sandbox.build.instructions import Dockerfile, Heredoc, Instruction

_MOST_BYTES = 4 << 20
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<\s]+)")
KNOWN = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


def parse_dockerfile(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Return the instructions in *data*. Raises BuildError, InstructionError."""
    text = _decode(data, name)
    lines = tuple(text.splitlines())
    escape = directives(lines).get("escape", "\\")
    if escape not in ("\\", "`"):
        raise InstructionError(f"invalid escape token {escape!r}", 1, hint="use ` or \\")
    found = _parse_in_child(text)
    if isinstance(found, str):
        line = _line_of_error(lines, found)
        raise InstructionError(f"{name} is wrong: {found}", line)
    # A line that is nothing but a continuation comes as an instruction without a word.
    instructions = tuple(_instruction(raw) for raw in found if raw["word"])
    for instruction in instructions:
        _check(instruction)
    return Dockerfile(name, instructions, lines, escape)


def parse_trigger(text: str, line: int, end: int) -> Instruction:
    """Return the one instruction that an ONBUILD holds. Raises InstructionError."""
    if len(text) > _MOST_BYTES or "\0" in text:
        raise InstructionError("this ONBUILD can't be read", line, end)
    found = _parse_in_child(text)
    if isinstance(found, str) or len(found) != 1 or not found[0]["word"]:
        raise InstructionError(
            f"wrong instruction of ONBUILD: {text[:200]!r}",
            line,
            end,
            detail=found if isinstance(found, str) else None,
        )
    raw = {**found[0], "line": line, "end": end}
    instruction = _instruction(raw)
    _check(instruction)
    if instruction.word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InstructionError(f"{instruction.word} isn't allowed in ONBUILD", line, end)
    return instruction


def directives(lines: tuple[str, ...]) -> dict[str, str]:
    """Return the parser directives (`# escape=`) that the file begins with, by lower-case name."""
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() in found:
            break
        found[match[1].lower()] = match[2]
    return found


def _decode(data: bytes, name: str) -> str:
    if len(data) > _MOST_BYTES:
        raise BuildError(f"{name} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise BuildError(f"{name} is not UTF-8", detail=f"line {line}: {err.reason}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BuildError(f"{name} is not text", detail=f"a zero byte in line {line}")
    if not text.strip():
        raise BuildError(f"{name} is empty", hint="begin with FROM IMAGE")
    return text


def _check(instruction: Instruction) -> None:
    if not instruction.word:
        raise InstructionError("no instruction here", instruction.line, instruction.end)
    if instruction.word not in KNOWN:
        from difflib import get_close_matches

        similar = get_close_matches(instruction.word, KNOWN, 1)
        raise InstructionError(
            f"unknown instruction: {instruction.word}",
            instruction.line,
            instruction.end,
            hint=f"did you mean {similar[0]}?" if similar else None,
        )


def _instruction(raw: dict[str, Any]) -> Instruction:
    # Where a here-document begins stands in the values; the quotes of its name are there alone.
    marks = {
        match[3].strip("\"'"): match
        for value in raw["values"]
        for match in _HEREDOC.finditer(value)
    }
    heredocs = []
    for name, content in raw["heredocs"]:
        mark = marks.get(name)
        quoted = mark is not None and mark[3] != name
        heredocs.append(Heredoc(name, content, not quoted, mark is not None and mark[2] == "-"))
    return Instruction(
        raw["word"].upper(),
        tuple(raw["values"]),
        tuple(raw["flags"]),
        raw["json"],
        tuple(heredocs),
        raw["line"],
        raw["end"],
        raw["original"],
    )


def _line_of_error(lines: tuple[str, ...], message: str) -> int:
    """Return the line with which the error appears: the parser does not tell it."""
    for count in range(1, len(lines) + 1):
        if _parse_in_child("\n".join(lines[:count]) + "\n") == message:
            return count
    return len(lines)


def _parse_in_child(text: str) -> list[dict[str, Any]] | str:
    """Return the parser's instructions, or its complaint."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        _be_parser(text, write)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        return "the parser gave up"
    found: list[dict[str, Any]] | str = pickle.loads(answer)
    return found


def _be_parser(text: str, answer: int) -> NoReturn:
    try:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 2)  # a panic of Go's would print its stacks
        import dockerfile

        result: list[dict[str, Any]] | str
        try:
            result = [_plain(command) for command in dockerfile.parse_string(text)]
        except dockerfile.GoParseError as err:
            result = str(err)
        with open(answer, "wb") as pipe:
            pickle.dump(result, pipe)
    finally:
        os._exit(0)


def _plain(command: Any) -> dict[str, Any]:
    # Of a line that is nothing but a continuation the parser makes a command without a name.
    return {
        "word": command.cmd or "",
        "values": list(command.value),
        "flags": list(command.flags),
        "json": command.json,
        "heredocs": [(h.name, h.content) for h in command.heredocs],
        "line": command.start_line,
        "end": command.end_line,
        "original": command.original or "",
    }

"""`RUN --mount=type=…`: what is mounted for one step.

https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable, Iterator
from typing import Literal, cast

from msgspec import Struct

from sandbox.build.errors import InstructionError
from sandbox.build.flags import Flags
from sandbox.build.instructions import Instruction
from sandbox.engine.sizes import parse_size
from sandbox.errors import SbxError

Type = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]
_KEYS: dict[Type, frozenset[str]] = {
    "bind": frozenset({"target", "source", "from", "readonly"}),
    "cache": frozenset(
        {"target", "source", "from", "readonly", "id", "sharing", "mode", "uid", "gid"}
    ),
    "tmpfs": frozenset({"target", "size"}),
    "secret": frozenset({"target", "id", "required", "mode", "uid", "gid", "env"}),
    "ssh": frozenset({"target", "id", "required", "mode", "uid", "gid"}),
}
_OTHER_NAMES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly"}
_BOOLEAN = {"true": True, "1": True, "false": False, "0": False, "": True}


class RunMount(Struct, frozen=True):
    """One mount of a RUN, expanded."""

    type: Type
    target: str = ""  # absolute; "" where a secret is a variable alone
    source: str = ""
    origin: str = ""  # `from`: a stage or an image; "" is the context
    readonly: bool = True
    id: str = ""
    sharing: Sharing = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None  # bytes
    required: bool = False
    variable: str = ""  # a secret's environment variable


def sources_of_mounts(instruction: Instruction) -> Iterator[str]:
    """Yield the `from` of each mount, as written."""
    for text in Flags(instruction).texts("mount"):
        origin = _fields(text, instruction).get("from")
        if origin:
            yield origin


def read_mounts(
    instruction: Instruction, expand: Callable[[str], str], workdir: str
) -> tuple[RunMount, ...]:
    """Return the mounts of a RUN. Raises InstructionError."""
    return tuple(
        _mount(text, instruction, expand, workdir) for text in Flags(instruction).texts("mount")
    )


def _fields(text: str, instruction: Instruction) -> dict[str, str]:
    """Return the comma-separated fields by their main names."""
    fields: dict[str, str] = {}
    try:
        parts = next(csv.reader([text]), [])
    except csv.Error as err:
        raise InstructionError(
            f"invalid --mount={text[:200]}", instruction.line, instruction.end, detail=str(err)
        ) from err
    for part in parts:
        name, equals, value = part.partition("=")
        key = _OTHER_NAMES.get(name.strip().lower(), name.strip().lower())
        if key in ("rw", "readwrite"):
            key, value = "readonly", "false" if _BOOLEAN.get(value, True) else "true"
        elif not equals and key not in ("readonly", "required"):
            raise InstructionError(
                f"invalid field {part!r} of --mount", instruction.line, instruction.end
            )
        fields[key] = value
    return fields


def _mount(
    text: str, instruction: Instruction, expand: Callable[[str], str], workdir: str
) -> RunMount:
    def wrong(message: str) -> InstructionError:
        return InstructionError(
            message, instruction.line, instruction.end, detail=f"--mount={text}"
        )

    fields = {name: expand(value) for name, value in _fields(text, instruction).items()}
    kind = fields.pop("type", "bind")
    if kind not in _KEYS:
        raise wrong(f"unsupported mount type {kind!r}")
    mount_type: Type = kind
    for name in fields:
        if name not in _KEYS[mount_type]:
            raise wrong(f"unexpected key {name!r} for mount type {kind!r}")
    identifier = fields.get("id", "")
    target = _target(mount_type, fields, identifier, workdir)
    if not target and not (mount_type == "secret" and fields.get("env")):
        raise wrong("target is required")
    if target == "/":
        raise wrong("target can not be /")
    sharing = fields.get("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        raise wrong(f"unsupported sharing value {sharing!r}")
    return RunMount(
        mount_type,
        target,
        fields.get("source", ""),
        fields.get("from", ""),
        _boolean(fields.get("readonly"), mount_type == "bind", wrong),
        identifier or _default_id(mount_type, target),
        cast(Sharing, sharing),
        _number(fields.get("mode"), wrong, base=8),
        _number(fields.get("uid"), wrong) or 0,
        _number(fields.get("gid"), wrong) or 0,
        _size(fields.get("size"), wrong),
        _boolean(fields.get("required"), False, wrong),
        fields.get("env", ""),
    )


def _target(kind: Type, fields: dict[str, str], identifier: str, workdir: str) -> str:
    target = fields.get("target", "")
    if not target and kind == "secret" and not fields.get("env"):
        name = identifier or ""
        return f"/run/secrets/{posixpath.basename(name)}" if name else ""
    if not target and kind == "ssh":
        return "/run/buildkit/ssh_agent.0"
    if not target:
        return ""
    return "/" + posixpath.normpath(posixpath.join(workdir or "/", target)).lstrip("/")


def _default_id(kind: Type, target: str) -> str:
    if kind == "ssh":
        return "default"
    return posixpath.basename(target) if kind == "secret" else target


def _boolean(text: str | None, default: bool, wrong: Callable[[str], InstructionError]) -> bool:
    if text is None:
        return default
    if text.lower() not in _BOOLEAN:
        raise wrong(f"expecting a boolean value, not {text!r}")
    return _BOOLEAN[text.lower()]


def _number(
    text: str | None, wrong: Callable[[str], InstructionError], base: int = 10
) -> int | None:
    if text is None:
        return None
    try:
        value = int(text, base)
    except ValueError:
        raise wrong(f"not a number: {text!r}") from None
    if not 0 <= value <= 0x7FFFFFFF:
        raise wrong(f"number out of range: {text!r}")
    return value


def _size(text: str | None, wrong: Callable[[str], InstructionError]) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text, "size")
    except SbxError as err:
        raise wrong(err.message) from err

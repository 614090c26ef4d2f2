"""What `sbx build` was asked for, parsed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import Literal, cast

from msgspec import Struct, field

from sandbox.build.errors import BuildError
from sandbox.errors import UsageError
from sandbox.image.descriptor import Platform
from sandbox.image.reference import Reference
from sandbox.spec import NetworkMode

OutputType = Literal["image", "local", "tar", "oci", "docker"]
Shown = Literal["auto", "plain", "tty", "quiet"]
_MOST_SECRET = 500 << 10  # bytes, as BuildKit


class Output(Struct, frozen=True):
    """One --output."""

    type: OutputType = "image"
    destination: str = ""  # a path, or "-" for standard output
    names: tuple[str, ...] = ()


class BuildOptions(Struct, frozen=True):
    """The options of `sbx build`."""

    context: str
    dockerfile: str | None = None
    tags: tuple[Reference, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()
    target: str | None = None
    platform: Platform | None = None
    network: NetworkMode = "private"
    use_cache: bool = True
    cache_from: tuple[str, ...] = ()
    pull: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    sockets: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = (Output(),)
    progress: Shown = "auto"
    iidfile: str | None = None


def parse_output(text: str) -> Output:
    """Return the output of `type=…,dest=…`; a path alone is a directory, `-` a tar on stdout.

    Raises UsageError.
    """
    if text == "-":
        return Output("tar", "-")
    if "=" not in text:
        return Output("local", os.path.abspath(text))
    fields = _fields(text, "--output")
    kind = fields.pop("type", "")
    destination = fields.pop("dest", "")
    name = fields.pop("name", "")
    if kind not in ("image", "local", "tar", "oci", "docker"):
        raise UsageError(
            f"unsupported output type: {kind!r}", hint="type=image, local, tar, oci or docker"
        )
    if kind == "local" and destination in ("", "-"):
        raise UsageError(
            "--output type=local needs a directory", hint="--output type=local,dest=DIR"
        )
    names = tuple(part for part in name.split(",") if part)
    unknown = set(fields) - {"push", "compression", "oci-mediatypes"}
    if unknown:
        raise UsageError(f"unknown field of --output: {sorted(unknown)[0]}")
    if fields.get("push") in ("true", "1"):
        raise UsageError("--output …,push=true is not supported", hint="sbx push NAME afterwards")
    if not destination and kind != "image":
        destination = "-"
    if destination not in ("", "-"):
        # The working directory is another one by the time that it is written.
        destination = os.path.abspath(destination)
    return Output(cast(OutputType, kind), destination, names)


def parse_secret(text: str, environ: Mapping[str, str]) -> tuple[str, bytes]:
    """Return id and content of `id=…,src=…` or `id=…,env=…`. Raises UsageError, BuildError."""
    fields = _fields(text, "--secret")
    identifier = fields.get("id", "")
    source = fields.get("src") or fields.get("source") or ""
    variable = fields.get("env", "")
    kind = fields.get("type", "")
    unknown = set(fields) - {"id", "src", "source", "env", "type"}
    if not identifier or unknown or kind not in ("", "file", "env"):
        raise UsageError(f"invalid --secret: {text!r}", hint="id=NAME,src=FILE or id=NAME,env=VAR")
    if kind == "env" and not variable:
        variable, source = source or identifier, ""
    if not source and not variable and kind != "file" and identifier in environ:
        variable = identifier
    if variable and not source:
        if variable not in environ:
            raise BuildError(f"secret {identifier}: {variable} is not set in the environment")
        content = os.fsencode(environ[variable])
    else:
        content = _read(source or identifier, identifier)
    if len(content) > _MOST_SECRET:
        raise BuildError(f"secret {identifier} is larger than {_MOST_SECRET >> 10} KiB")
    return identifier, content


def _read(path: str, identifier: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_SECRET + 1)
    except OSError as err:
        raise BuildError(f"secret {identifier}: can't read {path}", detail=err.strerror) from err


def parse_ssh(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return id and socket of `default` or `ID=SOCKET`. Raises BuildError."""
    identifier, equals, path = text.partition("=")
    identifier = identifier or "default"
    if not equals:
        path = environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise BuildError(
                "--ssh: there is no agent",
                detail="SSH_AUTH_SOCK is not set",
                hint="eval $(ssh-agent)",
            )
    import stat

    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as err:
        raise BuildError(f"--ssh: can't use {path}", detail=err.strerror) from err
    if not is_socket:
        raise BuildError(
            f"--ssh: {path} is no agent's socket", hint="ssh-add the key, then --ssh default"
        )
    return identifier, os.path.abspath(path)


def _fields(text: str, option: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    try:
        parts = next(csv.reader([text]), [])
    except csv.Error as err:
        raise UsageError(f"invalid {option}: {text!r}", detail=str(err)) from err
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"invalid {option}: {text!r}", detail=f"no value in {part!r}")
        fields[name.strip().lower()] = value
    return fields

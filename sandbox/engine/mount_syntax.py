"""Mounts: `-v`, `--mount` and `--tmpfs`.

https://docs.docker.com/engine/storage/bind-mounts/, https://docs.docker.com/engine/storage/tmpfs/
"""

from __future__ import annotations

import posixpath
import re
from typing import Literal, cast

from sandbox.engine.sizes import parse_size
from sandbox.errors import InvalidSpec
from sandbox.spec import Mount, MountType

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# Options that mean nothing here: labels are SELinux's, propagation is always rslave.
_IGNORED = frozenset(["z", "Z", "delegated", "cached", "consistent", "rslave", "slave", "nocopy"])
_FLAGS = frozenset(("exec", "noexec", "nosuid", "nodev"))
_REFUSED = {
    "U": "ownership is never changed; see --userns keep-id",
    "shared": "what is mounted in the container never reaches the host",
    "rshared": "what is mounted in the container never reaches the host",
    "suid": "file systems are always mounted nosuid",
    "dev": "file systems are always mounted nodev",
}
_VOLUME_HINT = "[SOURCE:]TARGET[:ro|rw], as in ./data:/data:ro"


def parse_volume(text: str, cwd: str) -> Mount:
    """Return the mount of `-v [SOURCE:]TARGET[:OPTIONS]`.

    A source with a slash or beginning with a dot is a path, below *cwd* when relative; any other
    is a volume's name; no source is an anonymous volume. Raises InvalidSpec.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or "" in parts:
        raise InvalidSpec(f"invalid volume: {text!r}", hint=_VOLUME_HINT)
    if len(parts) == 1:
        return Mount("volume", container_path(parts[0], text))
    source, target = parts[0], container_path(parts[1], text)
    options = parts[2].split(",") if len(parts) == 3 else []
    readonly, flags = _options(options, text)
    type_, source = _source(source, cwd, text)
    return Mount(type_, target, source, readonly, options=flags)


def _source(source: str, cwd: str, whole: str) -> tuple[MountType, str]:
    if source.startswith((".", "~")) or "/" in source:
        return "bind", _host_path(source, cwd)
    if not _VOLUME_NAME.fullmatch(source):
        raise InvalidSpec(
            f"invalid volume: {whole!r}",
            detail=f"{source!r} is not a volume's name",
            hint=f"write ./{source} when it is a directory",
        )
    return "volume", source


def _host_path(source: str, cwd: str) -> str:
    return posixpath.normpath(posixpath.join(cwd, source))


def container_path(target: str, whole: str) -> str:
    """Return *target* as a normal absolute path; *whole* is what an error quotes.

    Raises InvalidSpec, for / as well: nothing can be mounted there.
    """
    if not target.startswith("/"):
        raise InvalidSpec(
            f"invalid mount: {whole!r}",
            detail=f"the container's path {target!r} is not absolute",
            hint=_VOLUME_HINT,
        )
    # normpath keeps two leading slashes, which POSIX lets mean something else.
    normal = "/" + posixpath.normpath(target).lstrip("/")
    if normal == "/":
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="nothing can be mounted on /")
    return normal


def _options(options: list[str], whole: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether it is read-only, and the flags."""
    readonly = False
    flags = []
    for option in options:
        if option in _REFUSED:
            raise InvalidSpec(f"invalid mount: {whole!r}", detail=f"{option}: {_REFUSED[option]}")
        if option in ("ro", "readonly"):
            readonly = True
        elif option in _FLAGS:
            flags.append(option)
        elif option not in _IGNORED and option not in (
            "rw",
            "bind",
            "rbind",
            "private",
            "rprivate",
        ):
            raise InvalidSpec(
                f"invalid mount: {whole!r}", detail=f"unknown option {option!r}", hint=_VOLUME_HINT
            )
    if "ro" in options and "rw" in options:
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="both ro and rw")
    return readonly, tuple(flags)


def parse_tmpfs(text: str) -> Mount:
    """Return the mount of `--tmpfs TARGET[:OPTIONS]`. Raises InvalidSpec."""
    path, _, given = text.partition(":")
    target = container_path(path, text)
    size, mode, rest = None, None, []
    for option in filter(None, given.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            size = _tmpfs_size(value, text)
        elif name == "mode":
            mode = _mode(value, text)
        elif option not in ("nr_inodes", "tmpcopyup", "notmpcopyup") and name != "nr_inodes":
            rest.append(option)
    readonly, flags = _options(rest, text)
    return Mount("tmpfs", target, "", readonly, size, mode, flags)


def _tmpfs_size(text: str, whole: str) -> int:
    size = parse_size(text, "tmpfs size")
    if size == 0:
        # For the kernel size=0 means no limit (tmpfs(5)), which nobody can mean here.
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="a tmpfs of size 0")
    return size


def _mode(text: str, whole: str) -> int:
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise InvalidSpec(f"invalid mount: {whole!r}", detail=f"{text!r} is not an octal mode")
    return int(text, 8)


_KEYS = {
    "type": "type",
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("target", "destination", "dst"), "target"),
    **dict.fromkeys(("readonly", "ro"), "readonly"),
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
    **dict.fromkeys(
        ("bind-propagation", "consistency", "volume-driver", "volume-nocopy", "bind-nonrecursive"),
        "ignored",
    ),
}


def parse_mount(text: str, cwd: str) -> Mount:
    """Return the mount of `--mount type=bind,source=PATH,target=PATH[,readonly]`.

    Types are bind, volume (the default) and tmpfs. Raises InvalidSpec.
    """
    fields = _fields(text)
    type_ = fields.get("type", "volume")
    if type_ not in ("bind", "volume", "tmpfs"):
        raise InvalidSpec(
            f"invalid mount: {text!r}", detail=f"unknown type {type_!r}", hint="bind, volume, tmpfs"
        )
    if "target" not in fields:
        raise InvalidSpec(f"invalid mount: {text!r}", detail="target is missing")
    target = container_path(fields["target"], text)
    readonly = _boolean(fields.get("readonly", "false"), text)
    _check_fit(fields, type_, text)
    return Mount(
        cast(Literal["bind", "volume", "tmpfs"], type_),
        target,
        _mount_source(fields.get("source", ""), type_, cwd, text),
        readonly,
        _tmpfs_size(fields["tmpfs-size"], text) if "tmpfs-size" in fields else None,
        _mode(fields["tmpfs-mode"], text) if "tmpfs-mode" in fields else None,
    )


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        name = _KEYS.get(key.strip().lower())
        if name is None:
            raise InvalidSpec(
                f"invalid mount: {text!r}",
                detail=f"unknown key {key!r}",
                hint="type, source, target, readonly, tmpfs-size, tmpfs-mode",
            )
        if not equals and name != "readonly":
            raise InvalidSpec(f"invalid mount: {text!r}", detail=f"{key} needs a value")
        fields[name] = value if equals else "true"
    return fields


def _boolean(text: str, whole: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise InvalidSpec(
        f"invalid mount: {whole!r}", detail=f"readonly is true or false, not {text!r}"
    )


def _check_fit(fields: dict[str, str], type_: str, whole: str) -> None:
    if type_ != "tmpfs" and ("tmpfs-size" in fields or "tmpfs-mode" in fields):
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="tmpfs options without type=tmpfs")
    if type_ == "tmpfs" and fields.get("source"):
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="a tmpfs has no source")
    if type_ == "bind" and not fields.get("source"):
        raise InvalidSpec(f"invalid mount: {whole!r}", detail="source is missing")


def _mount_source(source: str, type_: str, cwd: str, whole: str) -> str:
    if type_ == "bind":
        return _host_path(source, cwd)
    if source and not _VOLUME_NAME.fullmatch(source):
        raise InvalidSpec(
            f"invalid mount: {whole!r}",
            detail=f"{source!r} is not a volume's name",
            hint="type=bind",
        )
    return source

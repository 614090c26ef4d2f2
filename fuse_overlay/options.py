"""The options of the command line: fuse-overlayfs's names (fuse-overlayfs(1)) and mount(8)'s own.

A backslash keeps a comma or a colon from separating, as in the kernel's lowerdir.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .config import Config, IdMap

# Taken and without effect: they tune fuse-overlayfs, or are what mount(8) says by default.
_IGNORED = frozenset(
    """
    rw exec auto noauto defaults user nouser _netdev relatime norelatime strictatime lazytime
    nofail plugins threaded fast_ino fast-ino clone_fd context fscontext defcontext rootcontext
    userxattr index metacopy xino nfs_export
    """.split()  # noqa: SIM905 - a list of words is read more easily like this
)
# Handed on to libfuse.
_PASSED = frozenset(
    """
    ro nosuid nodev noexec noatime suid dev allow_other allow_root fsname subtype max_read
    auto_unmount default_permissions
    """.split()  # noqa: SIM905
)


class BadOption(ValueError):
    """An option that is not known, or a value that cannot be."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What was asked for: the overlay, and what libfuse is told about the mount."""

    config: Config
    options: frozenset[str] = frozenset()


def parse(texts: list[str]) -> Mount:
    """The meaning of all ``-o`` arguments together."""
    mount = Mount(Config(lower=(), upper=None, work=None))
    for text in texts:
        for option in split(text, ","):
            if option:
                mount = _apply(mount, option)
    config = mount.config
    if not config.lower:
        raise BadOption("lowerdir= is missing")
    if config.upper is not None and config.work is None:
        raise BadOption("upperdir= needs workdir=")
    return mount


def split(text: str, separator: str) -> list[str]:
    """Split at separators that have no backslash before them; backslashes stay."""
    parts = [""]
    escaped = False
    for char in text:
        if char == separator and not escaped:
            parts.append("")
            continue
        parts[-1] += char
        escaped = char == "\\" and not escaped
    return parts


def _unescape(text: str) -> str:
    plain, escaped = "", False
    for char in text:
        escaped = char == "\\" and not escaped
        plain += "" if escaped else char
    return plain


def _apply(mount: Mount, option: str) -> Mount:
    name, equals, value = option.partition("=")
    if name in _IGNORED:
        return mount
    if name in _PASSED:
        return replace(mount, options=mount.options | {option})
    return replace(mount, config=_configure(mount.config, name, value, bool(equals)))


def _configure(config: Config, name: str, value: str, given: bool) -> Config:
    match name:
        case "lowerdir":
            return replace(config, lower=tuple(map(_unescape, split(value, ":"))))
        case "upperdir":
            return replace(config, upper=_unescape(value))
        case "workdir":
            return replace(config, work=_unescape(value))
        case "uidmapping":
            return replace(config, uid_map=_id_map(value))
        case "gidmapping":
            return replace(config, gid_map=_id_map(value))
        case "size":
            return replace(config, size=_size(value))
        case "inodes":
            return replace(config, inodes=_size(value))
        case _:
            return _configure_flag(config, name, value, given)


def _configure_flag(config: Config, name: str, value: str, given: bool) -> Config:
    on = value not in ("0", "off", "no") if given else True
    match name:
        case "squash_to_root":
            return (
                replace(
                    config,
                    squash_uid=0 if config.squash_uid is None else config.squash_uid,
                    squash_gid=0 if config.squash_gid is None else config.squash_gid,
                )
                if on
                else config
            )
        case "squash_to_uid":
            return replace(config, squash_uid=_number(value))
        case "squash_to_gid":
            return replace(config, squash_gid=_number(value))
        case "xattr_permissions":
            return replace(config, owner_map="xattr" if value in ("1", "2") else "none")
        case "volatile":
            return replace(config, volatile=on)
        case "fsync":
            return replace(config, volatile=not on)
        case "noacl":
            return replace(config, acl=not on)
        case "static_nlink":
            return replace(config, static_nlink=on)
        case "writeback":
            return replace(config, writeback=on)
        case "redirect_dir":
            return replace(config, redirect_dir=on)
        case "timeout":
            return replace(config, timeout=float(value))
        case _:
            raise BadOption(f"unknown option: {name}")


def _id_map(text: str) -> IdMap:
    """``DISK:SHOWN:LENGTH`` and more of the same, separated by colons."""
    numbers = [_number(part) for part in text.replace(",", ":").split(":")]
    if len(numbers) % 3:
        raise BadOption(f"not a mapping: {text}")
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple((shown, disk, count) for disk, shown, count in triples)


def _number(text: str) -> int:
    if not text.isdigit():
        raise BadOption(f"not a number: {text!r}")
    return int(text)


def _size(text: str) -> int:
    """A number with an optional k, m, g or t (of 1024)."""
    unit = "kmgt".find(text[-1:].lower()) + 1 if text[-1:].isalpha() else 0
    if text[-1:].isalpha() and not unit:
        raise BadOption(f"not a size: {text!r}")
    return _number(text[:-1] if unit else text) << (10 * unit)

"""Whose a file is: between the ids on disk and those of the merged view.

The override xattr is containers-storage's (pkg/idtools, "user.containers.override_stat"):
``uid:gid:mode[:type]`` with the mode in octal.
"""

from __future__ import annotations

import os
import stat
from functools import cache

from . import whiteout
from .config import Config, IdMap
from .inodes import Node

OVERRIDE = b"user.containers.override_stat"

Shown = tuple[int, int, int, int]
"""st_mode, st_uid, st_gid, st_rdev."""


def can_record(mode: int) -> bool:
    """Whether a file of this kind can have user.* attributes (xattr(7))."""
    return stat.S_IFMT(mode) not in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)


class Ownership:
    """How ids are shown and kept. `plain` means that nothing has to be done."""

    def __init__(self, config: Config) -> None:
        self.uid_map = config.uid_map
        self.gid_map = config.gid_map
        self.squash_uid = config.squash_uid
        self.squash_gid = config.squash_gid
        self.override = config.owner_map == "xattr"
        self.overflow = config.squash_overflow
        self.plain = not (
            self.uid_map
            or self.gid_map
            or self.override
            or self.overflow
            or config.squash_uid is not None
            or config.squash_gid is not None
        )

    def shown(self, node: Node | None, st: os.stat_result) -> Shown:
        """What the merged view says of a real file. One without a node is a lower's."""
        mode, uid, gid, rdev = self.recorded(node, st)
        uid = uid if self.squash_uid is None else self.squash_uid
        gid = gid if self.squash_gid is None else self.squash_gid
        return mode, uid, gid, rdev

    def recorded(self, node: Node | None, st: os.stat_result) -> Shown:
        """Whose it is although the view may show all files as one user's: what a copy keeps."""
        mode, uid, gid, rdev = st.st_mode, st.st_uid, st.st_gid, st.st_rdev
        if self.override and node is not None:
            mode, uid, gid, rdev = overridden(self._read(node), (mode, uid, gid, rdev))
        if self.overflow and (node is None or not node.in_upper):
            uid = 0 if uid == overflow_id("uid") else uid
            gid = 0 if gid == overflow_id("gid") else gid
        return mode, to_view(self.uid_map, uid), to_view(self.gid_map, gid), rdev

    def _read(self, node: Node) -> bytes | None:
        if node.fd >= 0:
            return whiteout.read_xattr(node.fd, OVERRIDE)
        node.where.enter()
        return whiteout.read_xattr(node.real or b".", OVERRIDE)

    def keep(self, name: bytes | int, mode: int, uid: int, gid: int, rdev: int) -> None:
        """Write the override xattr of an fd, or of a name in the working directory."""
        text = override_text(mode, uid, gid, rdev)
        if isinstance(name, int):
            os.setxattr(name, OVERRIDE, text)
        else:
            os.setxattr(name, OVERRIDE, text, follow_symlinks=False)

    def uid_on_disk(self, uid: int) -> int:
        """The id under which the merged view's *uid* is kept; -1 stays -1."""
        if self.squash_uid is not None or self.override:
            return -1
        return to_disk(self.uid_map, uid)

    def gid_on_disk(self, gid: int) -> int:
        """As `uid_on_disk`."""
        if self.squash_gid is not None or self.override:
            return -1
        return to_disk(self.gid_map, gid)


def to_view(ranges: IdMap, real: int) -> int:
    """An id on disk as the merged view shows it; without a range for it, the overflow id."""
    if not ranges:
        return real
    for first, disk, count in ranges:
        if disk <= real < disk + count:
            return first + real - disk
    return overflow_id("uid")


def to_disk(ranges: IdMap, shown: int) -> int:
    """The reverse; an id that has no place on disk is EINVAL, as the kernel says."""
    if not ranges or shown == -1:
        return shown
    for first, disk, count in ranges:
        if first <= shown < first + count:
            return disk + shown - first
    raise OSError(22, "no mapping for id")


@cache
def overflow_id(kind: str) -> int:
    """The id that stands for all those without a mapping (proc(5), overflowuid)."""
    try:
        with open(f"/proc/sys/kernel/overflow{kind}", "rb") as file:
            return int(file.read())
    except OSError:
        return 65534


def overridden(text: bytes | None, shown: Shown) -> Shown:
    """The real attributes with what an override xattr says instead."""
    if not text:
        return shown
    try:
        parts = text.decode("ascii").split(":")
        uid, gid = int(parts[0]), int(parts[1])
        mode = int(parts[2], 8)
        kind, rdev = _kind(parts[3], shown) if len(parts) > 3 else (stat.S_IFMT(shown[0]), shown[3])
    except (ValueError, IndexError):
        return shown
    return kind | stat.S_IMODE(mode), uid, gid, rdev


def _kind(text: str, shown: Shown) -> tuple[int, int]:
    name, *numbers = text.split("-")
    kinds = {
        "dir": stat.S_IFDIR,
        "symlink": stat.S_IFLNK,
        "pipe": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
        "block": stat.S_IFBLK,
        "char": stat.S_IFCHR,
        "file": stat.S_IFREG,
    }
    rdev = os.makedev(int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else 0
    return kinds.get(name, stat.S_IFMT(shown[0])), rdev


def override_text(mode: int, uid: int, gid: int, rdev: int) -> bytes:
    """An override xattr's value."""
    names = {
        stat.S_IFDIR: "dir",
        stat.S_IFLNK: "symlink",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFREG: "file",
    }
    kind = names.get(stat.S_IFMT(mode))
    if kind is None:
        letter = "block" if stat.S_ISBLK(mode) else "char"
        kind = f"{letter}-{os.major(rdev)}-{os.minor(rdev)}"
    return f"{uid}:{gid}:{stat.S_IMODE(mode):04o}:{kind}".encode()

"""Changing owner, mode, times and size; extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from . import whiteout
from .copy_up import copy_up, upper_dir
from .files import truncate
from .inodes import NO_CAPABILITY, Dir, Node
from .lookup import note_dir
from .ownership import OVERRIDE, can_record

if TYPE_CHECKING:
    from .state import Overlay

_CAPABILITY = b"security.capability"


class Wish:
    """What is to be changed; None stays as it is."""

    __slots__ = ("atime_ns", "gid", "kill", "mode", "mtime_ns", "size", "uid")

    def __init__(self) -> None:
        self.mode: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.size: int | None = None
        self.atime_ns: int | None = None
        self.mtime_ns: int | None = None
        self.kill = False  # a new size clears set-id bits

    def changes_nothing(self, st: os.stat_result) -> bool:
        """Whether this is only the kernel writing back times that are so already."""
        others = (self.mode, self.uid, self.gid, self.size, self.atime_ns)
        return all(wish is None for wish in others) and self.mtime_ns in (None, st.st_mtime_ns)


def setattr(overlay: Overlay, node: Node, wish: Wish) -> os.stat_result:
    """chown(2), chmod(2), truncate(2), utimensat(2), in that order of effect."""
    if not node.in_upper and wish.changes_nothing(st := node.stat()):
        return st
    if isinstance(node, Dir):
        upper_dir(overlay, node)
    else:
        copy_up(overlay, node, wish.size)
    if wish.size is not None:
        if node.kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, "not a regular file")
        truncate(overlay, node, wish.size, kill=wish.kill)
    place = _Place(node)
    if wish.uid is not None or wish.gid is not None:
        _chown(overlay, node, place, wish)
    if wish.mode is not None:
        _chmod(overlay, node, place, stat.S_IMODE(wish.mode))
    if wish.atime_ns is not None or wish.mtime_ns is not None:
        _set_times(place, wish)
    st = place.stat()
    if isinstance(node, Dir):
        note_dir(node, st)
    return st


class _Place:
    """How to name a real file in the upper: by its descriptor, or by directory and name."""

    __slots__ = ("by_fd", "dir_fd", "name")

    def __init__(self, node: Node) -> None:
        self.dir_fd: int | None = None
        self.name: bytes | int
        if isinstance(node, Dir):
            if node.gone:
                raise FileNotFoundError(errno.ENOENT, "removed directory")
            self.name = node.top.open()
        elif node.fd >= 0 and node.kind == stat.S_IFREG:
            self.name = node.fd
        elif node.gone:
            raise OSError(errno.ESTALE, "removed file")
        else:
            self.name, self.dir_fd = node.real, node.where.open()
        self.by_fd = self.dir_fd is None

    def stat(self) -> os.stat_result:
        if self.by_fd:
            return os.stat(self.name)
        return os.stat(self.name, dir_fd=self.dir_fd, follow_symlinks=False)

    def xattr_name(self) -> bytes | int:
        """The name for the xattr calls, which take no dir_fd: enter the directory."""
        if self.dir_fd is not None:
            os.fchdir(self.dir_fd)
        return self.name


def _chown(overlay: Overlay, node: Node, place: _Place, wish: Wish) -> None:
    own = overlay.ownership
    uid = -1 if wish.uid is None else wish.uid
    gid = -1 if wish.gid is None else wish.gid
    if own.override:
        # Those that can't have the xattr keep the owner that they have.
        if can_record(node.kind):
            _keep_override(overlay, node, place, uid=uid, gid=gid)
        return
    uid, gid = own.uid_on_disk(uid), own.gid_on_disk(gid)
    if place.by_fd:
        os.chown(place.name, uid, gid)
    else:
        os.chown(place.name, uid, gid, dir_fd=place.dir_fd, follow_symlinks=False)


def _chmod(overlay: Overlay, node: Node, place: _Place, mode: int) -> None:
    if node.kind == stat.S_IFLNK:
        raise OSError(errno.EOPNOTSUPP, "symlinks have no mode")
    if overlay.ownership.override and can_record(node.kind):
        _keep_override(overlay, node, place, mode=mode)
    if place.by_fd:
        os.chmod(place.name, mode)
    else:
        os.chmod(place.name, mode, dir_fd=place.dir_fd)


def _keep_override(
    overlay: Overlay,
    node: Node,
    place: _Place,
    *,
    uid: int = -1,
    gid: int = -1,
    mode: int | None = None,
) -> None:
    own = overlay.ownership
    old_mode, old_uid, old_gid, rdev = own.recorded(node, place.stat())
    if mode is None and stat.S_ISREG(old_mode):
        old_mode &= ~stat.S_ISUID
        old_mode &= ~stat.S_ISGID if old_mode & stat.S_IXGRP else ~0
    new_mode = old_mode if mode is None else stat.S_IFMT(old_mode) | mode
    own.keep(
        place.xattr_name(), new_mode, old_uid if uid < 0 else uid, old_gid if gid < 0 else gid, rdev
    )


def _set_times(place: _Place, wish: Wish) -> None:
    atime, mtime = wish.atime_ns, wish.mtime_ns
    if atime is None or mtime is None:
        st = place.stat()
        atime = st.st_atime_ns if atime is None else atime
        mtime = st.st_mtime_ns if mtime is None else mtime
    if place.by_fd:
        os.utime(place.name, ns=(atime, mtime))
    else:
        os.utime(place.name, ns=(atime, mtime), dir_fd=place.dir_fd, follow_symlinks=False)


def _enter(node: Node) -> bytes | int:
    """The name of a node for the xattr calls."""
    if isinstance(node, Dir):
        if node.gone:
            raise FileNotFoundError(errno.ENOENT, "removed directory")
        return node.top.open()
    if node.fd >= 0 and node.kind == stat.S_IFREG:
        return node.fd
    node.where.enter()
    return node.real


def _keeps_xattrs(node: Node) -> bool:
    """Whether a lower's file has its xattrs for itself: the world may not read it."""
    if node.in_upper or not node.where.layer.world_only:
        return False
    if isinstance(node, Dir) and any(lower.blank for lower in node.lowers):
        return True
    return not node.stat().st_mode & stat.S_IROTH and node.kind != stat.S_IFLNK


def getxattr(overlay: Overlay, node: Node, name: bytes) -> bytes | None:
    """An xattr as the user sees it, None if there is none."""
    if name == _CAPABILITY and node.flags & NO_CAPABILITY:
        return None
    if (overlay.ownership.override and name == OVERRIDE) or _keeps_xattrs(node):
        return None
    place = _enter(node)
    try:
        if not isinstance(place, int):
            return os.getxattr(place, whiteout.to_disk(name), follow_symlinks=False)
        # The kernel asks for the ACLs of all directories, few of which have any.
        if node.kind == stat.S_IFDIR and not os.listxattr(place):
            return None
        return os.getxattr(place, whiteout.to_disk(name))
    except OSError as err:
        if err.errno != errno.ENODATA:
            raise
        if name == _CAPABILITY and node.in_upper:
            node.flags |= NO_CAPABILITY
        return None


def setxattr(overlay: Overlay, node: Node, name: bytes, value: bytes) -> None:
    """Set an xattr. Its effect on the mode (ACLs) is the backing file system's."""
    if overlay.ownership.override and name == OVERRIDE:
        raise PermissionError(errno.EPERM, "an xattr of the file system's own")
    copy_up(overlay, node)
    node.flags &= ~NO_CAPABILITY
    blocks = _blocks(overlay, node)
    if overlay.quota is not None:
        overlay.quota.check(len(value))
    place = _enter(node)
    if isinstance(place, int):
        os.setxattr(place, whiteout.to_disk(name), value)
    else:
        os.setxattr(place, whiteout.to_disk(name), value, follow_symlinks=False)
    _count_blocks(overlay, node, blocks)


def _blocks(overlay: Overlay, node: Node) -> int:
    return _Place(node).stat().st_blocks if overlay.quota is not None else 0


def _count_blocks(overlay: Overlay, node: Node, before: int) -> None:
    """Count what an xattr took or gave back: XFS has room for any number of them in an inode."""
    if overlay.quota is not None:
        overlay.quota.add(_Place(node).stat().st_blocks - before)


def removexattr(overlay: Overlay, node: Node, name: bytes) -> None:
    """Remove an xattr; nothing is copied up for one that is not there."""
    if getxattr(overlay, node, name) is None:
        raise OSError(errno.ENODATA, "no xattr")
    copy_up(overlay, node)
    blocks = _blocks(overlay, node)
    place = _enter(node)
    if isinstance(place, int):
        os.removexattr(place, whiteout.to_disk(name))
    else:
        os.removexattr(place, whiteout.to_disk(name), follow_symlinks=False)
    _count_blocks(overlay, node, blocks)


def listxattr(overlay: Overlay, node: Node) -> list[bytes]:
    """The xattrs that the user sees."""
    if _keeps_xattrs(node):
        return []
    place = _enter(node)
    if isinstance(place, int):
        found = os.listxattr(place)
    else:
        found = os.listxattr(place, follow_symlinks=False)
    seen = []
    for text in found:
        name = whiteout.from_disk(os.fsencode(text))
        if name is not None and not (overlay.ownership.override and name == OVERRIDE):
            seen.append(name)
    return seen

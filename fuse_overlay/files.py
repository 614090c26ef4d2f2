"""The content of files: open, read, write, sync.

A node has one descriptor, which is also the handle of every open of it. Copy-up puts the copy
under the same number (dup2(2)), so a handle that was opened for reading sees what is written
later, as on any other file system.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from .copy_up import copy_up, open_lower
from .inodes import HELD, SUID, WRITABLE, Node

if TYPE_CHECKING:
    from .state import Overlay

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


def open_file(overlay: Overlay, node: Node, flags: int) -> int:
    """Open a regular file; the handle."""
    if node.kind != stat.S_IFREG:
        raise OSError(errno.ENXIO, "not a regular file")
    if flags & _WRITING:
        if not node.in_upper:
            copy_up(overlay, node, 0 if flags & os.O_TRUNC else None)
        fd = writable_fd(overlay, node)
        if flags & os.O_TRUNC:
            truncate(overlay, node, 0)
    else:
        fd = readable_fd(overlay, node)
    node.opens += 1
    return fd


def readable_fd(overlay: Overlay, node: Node) -> int:
    """The node's descriptor, opened if need be."""
    if node.fd >= 0:
        return node.fd
    if not node.in_upper:
        fd = open_lower(node)
        if node.where.layer.live and overlay.table.id_of(os.fstat(fd)) != node.ino:
            os.close(fd)
            raise OSError(errno.ESTALE, "replaced below")
        overlay.table.give_fd(node, fd)
        return fd
    dir_fd = node.where.open()
    try:
        fd = os.open(node.real, os.O_RDWR | os.O_NOATIME | _FLAGS, dir_fd=dir_fd)
        node.flags |= WRITABLE
    except (PermissionError, OSError) as err:
        if err.errno not in (errno.EPERM, errno.EACCES, errno.EROFS, errno.ETXTBSY):
            raise
        fd = _open_unwritable(node, dir_fd)
    overlay.table.give_fd(node, fd)
    return fd


def _open_unwritable(node: Node, dir_fd: int) -> int:
    """Open our own file although its mode is against it (a server without capabilities)."""
    try:
        return os.open(node.real, os.O_RDONLY | _FLAGS, dir_fd=dir_fd)
    except PermissionError:
        mode = os.stat(node.real, dir_fd=dir_fd, follow_symlinks=False).st_mode
        os.chmod(node.real, stat.S_IMODE(mode) | stat.S_IRUSR, dir_fd=dir_fd)
        try:
            return os.open(node.real, os.O_RDONLY | _FLAGS, dir_fd=dir_fd)
        finally:
            os.chmod(node.real, stat.S_IMODE(mode), dir_fd=dir_fd)


def writable_fd(overlay: Overlay, node: Node) -> int:
    """The node's descriptor, open for writing too; the node is in the upper."""
    fd = readable_fd(overlay, node)
    if not node.flags & WRITABLE:
        dir_fd = node.where.open()
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(fd, mode | stat.S_IWUSR | stat.S_IRUSR)
        try:
            other = os.open(node.real, os.O_RDWR | _FLAGS, dir_fd=dir_fd)
        finally:
            os.chmod(fd, mode)
        os.dup2(other, fd, inheritable=False)
        os.close(other)
        node.flags |= WRITABLE
    return fd


def hold(overlay: Overlay, node: Node) -> None:
    """Keep hold of a file that is about to lose the name by which we know it."""
    node.flags |= HELD
    if node.fd >= 0 or not node.in_upper:
        return
    if node.kind == stat.S_IFREG:
        readable_fd(overlay, node)
    else:
        fd = os.open(node.real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.where.open())
        overlay.table.give_fd(node, fd)


def release(overlay: Overlay, fd: int) -> None:
    """One open less."""
    overlay.table.released(overlay.table.by_fd[fd])


def write(overlay: Overlay, node: Node, offset: int, data: bytes) -> int:
    """pwrite(2), all of it or an error."""
    fd = node.fd
    node.attr = None
    if overlay.quota is not None:
        return _write_counted(overlay, fd, offset, data)
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, memoryview(data)[done:], offset + done)
    return done


def _write_counted(overlay: Overlay, fd: int, offset: int, data: bytes) -> int:
    quota = overlay.quota
    assert quota is not None
    before = os.fstat(fd)
    quota.check_write(before, offset, len(data))
    try:
        return os.pwrite(fd, data, offset)
    finally:
        quota.add(os.fstat(fd).st_blocks - before.st_blocks)


def clear_set_id(node: Node) -> None:
    """Clear set-user-id, and set-group-id of what the group may execute (inode(7))."""
    node.flags &= ~SUID
    mode = stat.S_IMODE(os.fstat(node.fd).st_mode)
    clear = stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0)
    if mode & clear:
        os.chmod(node.fd, mode & ~clear)


def truncate(overlay: Overlay, node: Node, size: int) -> None:
    """Set a file's size; the node is in the upper."""
    fd = writable_fd(overlay, node)
    node.attr = None
    if node.flags & SUID:
        clear_set_id(node)
    if overlay.quota is None:
        os.ftruncate(fd, size)
        return
    before = os.fstat(fd).st_blocks
    os.ftruncate(fd, size)
    overlay.quota.add(os.fstat(fd).st_blocks - before)


def sync(overlay: Overlay, fd: int, data_only: bool) -> None:
    """fsync(2): the file, and the names that lead to it."""
    node = overlay.table.by_fd[fd]
    if overlay.config.volatile or not node.in_upper:
        return
    if data_only:
        os.fdatasync(fd)
    else:
        os.fsync(fd)

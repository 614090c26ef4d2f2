"""The content of files: open, read, write, allocate, sync.

A node has one descriptor, which serves all opens of it and is opened when first needed. Copy-up
replaces it by the copy's, so a program that opened the file for reading sees what is written later,
as on any other file system.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import syscalls
from .copy_up import copy_up, open_lower
from .inodes import HELD, SUID, WRITABLE, Node

if TYPE_CHECKING:
    from .state import Overlay

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_COPY = 64 << 20  # bytes copied for one request at most: others are waiting


def open_file(overlay: Overlay, node: Node, flags: int) -> None:
    """A program opens a regular file, and the kernel tells."""
    if flags & _WRITING:
        copy_up(overlay, node, 0 if flags & os.O_TRUNC else None)
        writable_fd(overlay, node)
        if flags & os.O_TRUNC:
            truncate(overlay, node, 0, kill=True)
    else:
        readable_fd(overlay, node)
    node.opens += 1


def readable_fd(overlay: Overlay, node: Node) -> int:
    """The node's descriptor, opened if need be."""
    if node.fd >= 0:
        return node.fd
    if node.kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, "not a regular file")
    if not node.in_upper:
        fd = open_lower(node)
        if node.where.layer.live and overlay.table.id_of(os.fstat(fd)) != node.ino:
            os.close(fd)
            raise OSError(errno.ESTALE, "replaced below")
        overlay.table.give_fd(node, fd)
        return fd
    if node.gone:
        raise OSError(errno.ESTALE, "removed file")
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


def write(overlay: Overlay, node: Node, offset: int, data: memoryview, *, kill: bool) -> int:
    """pwrite(2), all of it or an error. *kill*: set-id bits are to be cleared."""
    fd = node.fd if node.flags & WRITABLE and node.fd >= 0 else own_fd(overlay, node)
    if kill and node.flags & SUID:
        clear_set_id(node)
    if overlay.quota is not None:
        return _write_counted(overlay, fd, offset, data)
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    return done


def own_fd(overlay: Overlay, node: Node) -> int:
    """A descriptor for changing the content, which is the upper's from now on."""
    copy_up(overlay, node)
    return writable_fd(overlay, node)


def _write_counted(overlay: Overlay, fd: int, offset: int, data: memoryview) -> int:
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


def truncate(overlay: Overlay, node: Node, size: int, *, kill: bool) -> None:
    """Set a file's size; the node is in the upper."""
    fd = writable_fd(overlay, node)
    if kill and node.flags & SUID:
        clear_set_id(node)
    with _counted(overlay, fd):
        os.ftruncate(fd, size)


def allocate(overlay: Overlay, node: Node, offset: int, length: int, mode: int) -> None:
    """fallocate(2)."""
    fd = own_fd(overlay, node)
    if node.flags & SUID:
        clear_set_id(node)
    if overlay.quota is not None and not mode & syscalls.FALLOC_FL_PUNCH_HOLE:
        overlay.quota.check_write(os.fstat(fd), offset, length)
    with _counted(overlay, fd):
        syscalls.fallocate(fd, mode, offset, length)


def copy_range(
    overlay: Overlay, source: Node, start: int, target: Node, offset: int, count: int
) -> int:
    """copy_file_range(2), in the kernel's own steps; how much was copied."""
    fd = own_fd(overlay, target)
    source_fd = readable_fd(overlay, source)
    fd = writable_fd(overlay, target)  # making room for the source's may have closed it
    count = min(count, _COPY)
    if target.flags & SUID:
        clear_set_id(target)
    if overlay.quota is not None:
        overlay.quota.check_write(os.fstat(fd), offset, count)
    with _counted(overlay, fd):
        return os.copy_file_range(source_fd, fd, count, start, offset)


@contextmanager
def _counted(overlay: Overlay, fd: int) -> Iterator[None]:
    """Count the blocks that a change of a file takes or gives back."""
    if overlay.quota is None:
        yield
        return
    before = os.fstat(fd).st_blocks
    try:
        yield
    finally:
        overlay.quota.add(os.fstat(fd).st_blocks - before)


def sync(overlay: Overlay, node: Node, *, data_only: bool) -> None:
    """fsync(2): the file, and the names that lead to it."""
    if overlay.config.volatile or not node.in_upper:
        return
    fd = readable_fd(overlay, node)
    if data_only:
        os.fdatasync(fd)
    else:
        os.fsync(fd)

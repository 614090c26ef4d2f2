"""The work directory: where a thing is made whole before one rename shows it.

``work/work`` holds what is being made and may be emptied at any mount; ``work/index`` holds the
copies of hard-linked lower files (`hardlinks`).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from . import syscalls, whiteout
from .layers import LayerDir


class Work:
    """Temporary names beside the upper, on the same file system."""

    def __init__(self, fd: int) -> None:
        self.root = fd
        self.fd = _make_dir(b"work", fd)
        self._count = 0
        self._whiteout: bytes | None = None
        self.dot_whiteouts = False  # 0:0 devices can't be made here
        self.empty()

    def name(self) -> bytes:
        """A new temporary name."""
        self._count += 1
        return b"#%x" % self._count

    def empty(self) -> None:
        """Remove what an earlier mount that was killed has left."""
        empty_dir(self.fd)

    def make_whiteout(self) -> bytes:
        """A whiteout under a temporary name."""
        name = self.name()
        self._link_whiteout(name, self.fd)
        return name

    def _link_whiteout(self, name: bytes, dir_fd: int) -> None:
        """Whiteouts are links to one inode, as the kernel's are, until it can have no more."""
        if self._whiteout is not None:
            try:
                os.link(
                    self._whiteout,
                    name,
                    src_dir_fd=self.fd,
                    dst_dir_fd=dir_fd,
                    follow_symlinks=False,
                )
                return
            except OSError as err:
                if err.errno == errno.EEXIST:
                    raise
        made = self.name()
        whiteout.make_whiteout(made, self.fd)
        self._whiteout = made
        os.link(made, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd, follow_symlinks=False)

    def hide(self, where: LayerDir, name: bytes) -> None:
        """Put a whiteout at a name of the upper that is free or taken by a file."""
        dir_fd = where.open()
        try:
            self._link_whiteout(name, dir_fd)
        except FileExistsError:
            made = self.make_whiteout()
            os.rename(made, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd)

    def hide_dir(self, where: LayerDir, name: bytes) -> None:
        """Put a whiteout where the upper has a directory, and remove the directory."""
        made = self.make_whiteout()
        syscalls.renameat2(self.fd, made, where.open(), name, syscalls.RENAME_EXCHANGE)
        remove_tree(self.fd, made)

    def remove_dir(self, where: LayerDir, name: bytes) -> None:
        """Remove a directory of the upper that has nothing in it but whiteouts."""
        made = self.name()
        os.rename(name, made, src_dir_fd=where.open(), dst_dir_fd=self.fd)
        remove_tree(self.fd, made)

    def show(self, made: bytes, where: LayerDir, name: bytes, *, is_dir: bool = False) -> None:
        """Move a finished temporary to its name, over a whiteout if there is one."""
        dir_fd = where.open()
        if is_dir:
            try:
                os.rename(made, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd)
            except NotADirectoryError:
                syscalls.renameat2(self.fd, made, dir_fd, name, syscalls.RENAME_EXCHANGE)
                os.unlink(made, dir_fd=self.fd)
        else:
            os.rename(made, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd)

    def discard(self, made: bytes) -> None:
        """Remove a temporary that did not get finished."""
        with suppress(OSError):
            remove_tree(self.fd, made)


def _make_dir(name: bytes, dir_fd: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def empty_dir(fd: int) -> None:
    """Remove everything below an open directory, following nothing."""
    os.fchdir(fd)
    for name in os.listdir(b"."):
        remove_tree(fd, name)


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove a name and all below it, following nothing; depth costs descriptors, not stack."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except IsADirectoryError:
        pass
    except OSError as err:
        if err.errno != errno.EPERM:  # what POSIX says for a directory
            raise
    else:
        return
    path: list[tuple[bytes, int]] = [(name, dir_fd)]
    while path:
        name, above = path[-1]
        try:
            os.rmdir(name, dir_fd=above)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            fd = _make_readable(name, above)
            path += [(below, fd) for below in _unlink_files(fd)]
            if path[-1][1] != fd:
                os.close(fd)
        else:
            path.pop()
            if above != dir_fd and (not path or path[-1][1] != above):
                os.close(above)


def _make_readable(name: bytes, dir_fd: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=dir_fd)
        return os.open(name, flags, dir_fd=dir_fd)


def _unlink_files(fd: int) -> list[bytes]:
    """Unlink what is no directory; the names of the directories."""
    os.fchdir(fd)
    dirs = []
    for name in os.listdir(b"."):
        try:
            os.unlink(name, dir_fd=fd)
        except (IsADirectoryError, PermissionError):
            dirs.append(name)
    return dirs

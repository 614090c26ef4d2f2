"""Hard links of the lower that survive copy-up.

The copy of a lower file with several names gets one more link in ``work/index``, named by the
node id. A name of the lower that was never touched then leads to the copy. The link count that
programs see is the real one plus the difference in `whiteout.NLINK`, written as the kernel does
("U+2": two more than the upper file's own; overlayfs.rst, "Index"); names of a file that was never
copied up are counted in a symlink beside ("3 were removed"). Other symlinks remember the node ids
of copies that can have no xattr: symlinks, fifos, sockets, devices.

A live lower has no place in the index: by the next mount its inode numbers may be other files'.
"""

from __future__ import annotations

import os
from contextlib import suppress

from . import whiteout
from .inodes import Node
from .layers import Layer, LayerDir

_GONE = b".gone"
_KEPT = b".ino"


class Index:
    """The copies of hard-linked lower files, by node id."""

    def __init__(self, upper: Layer, work_fd: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(b"index", 0o700, dir_fd=work_fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(b"index", flags, dir_fd=work_fd)
        self.dir = LayerDir(upper, None, b"index", self.fd)
        self.copied: set[int] = set()
        self.extra: dict[int, int] = {}  # names seen less links in the upper
        self.gone: dict[int, int] = {}  # removed names of files that were not copied up
        self.kept: dict[int, int] = {}  # number of an inode in the upper: its node id
        self._load()

    def _load(self) -> None:
        self.dir.enter()
        for name in os.listdir(b"."):
            with suppress(ValueError, OSError):
                if name.endswith(_GONE):
                    self.gone[int(name[: -len(_GONE)], 16)] = int(os.readlink(name))
                elif name.endswith(_KEPT):
                    self.kept[int(name[: -len(_KEPT)], 16)] = int(os.readlink(name))
                else:
                    self._load_copy(name)
        for node_id in self.copied & self.gone.keys():
            self._forget_gone(node_id)

    def _load_copy(self, name: bytes) -> None:
        node_id = int(name, 16)
        text = whiteout.read_xattr(name, whiteout.NLINK) or b"U+0"
        self.extra[node_id] = int(text[1:])
        self.copied.add(node_id)

    def name(self, node_id: int) -> bytes:
        """The name of a copy in the index."""
        return b"%x" % node_id

    def stat(self, node_id: int) -> os.stat_result:
        """The attributes of a copy."""
        return os.stat(self.name(node_id), dir_fd=self.fd, follow_symlinks=False)

    def nlink(self, node: Node, st: os.stat_result) -> int:
        """The number of names that a file has in the merged view."""
        if node.in_upper:
            return max(st.st_nlink + self.extra.get(node.id, 0), 0)
        return max(st.st_nlink - self.gone.get(node.id, 0), 0)

    def add(self, node_id: int, work_fd: int, made: bytes, names: int, fd: int) -> None:
        """Take a finished copy in, which stands for *names* names of the lower."""
        names -= self.gone.get(node_id, 0)
        self._set_extra(node_id, names - 1, fd)
        os.rename(made, self.name(node_id), src_dir_fd=work_fd, dst_dir_fd=self.fd)
        self.copied.add(node_id)
        self._forget_gone(node_id)

    def give_name(self, node_id: int, where: LayerDir, name: bytes) -> None:
        """Let a name that was only the lower's be one of the upper."""
        os.link(
            self.name(node_id),
            name,
            src_dir_fd=self.fd,
            dst_dir_fd=where.open(),
            follow_symlinks=False,
        )
        self.change(node_id, -1)

    def change(self, node_id: int, by: int) -> None:
        """A name of the lower was hidden or taken over."""
        self._set_extra(node_id, self.extra.get(node_id, 0) + by, None)

    def _set_extra(self, node_id: int, value: int, fd: int | None) -> None:
        self.extra[node_id] = value
        text = b"U%+d" % value
        if fd is not None:
            os.setxattr(fd, whiteout.NLINK, text)
        else:
            self.dir.enter()
            os.setxattr(self.name(node_id), whiteout.NLINK, text, follow_symlinks=False)

    def hide_name(self, node: Node) -> None:
        """A lower-only name of a file was hidden by a whiteout."""
        if node.id in self.copied:
            self.change(node.id, -1)
            return
        count = self.gone[node.id] = self.gone.get(node.id, 0) + 1
        self._note(self.name(node.id) + _GONE, count)

    def keep_id(self, ino: int, node_id: int) -> None:
        """Remember the node id of an inode of the upper."""
        self.kept[ino] = node_id
        self._note(b"%x" % ino + _KEPT, node_id)

    def drop_id(self, ino: int) -> None:
        """The inode is gone, or another file's by now."""
        if self.kept.pop(ino, None) is not None:
            with suppress(FileNotFoundError):
                os.unlink(b"%x" % ino + _KEPT, dir_fd=self.fd)

    def _note(self, name: bytes, number: int) -> None:
        """Keep a number, in one atomic step."""
        made = b"new"
        with suppress(FileNotFoundError):
            os.unlink(made, dir_fd=self.fd)
        os.symlink(b"%d" % number, made, dir_fd=self.fd)
        os.rename(made, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def drop(self, node_id: int) -> None:
        """The last name is gone: so is the copy's link here."""
        with suppress(FileNotFoundError):
            os.unlink(self.name(node_id), dir_fd=self.fd)
        self.copied.discard(node_id)
        self.extra.pop(node_id, None)

    def _forget_gone(self, node_id: int) -> None:
        if self.gone.pop(node_id, None) is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.name(node_id) + _GONE, dir_fd=self.fd)

"""The requests about names and attributes that our own loop answers."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from . import attributes, lookup, names, protocol, rename
from .answers import Answers
from .device import Buffer, Handler
from .inodes import Dir, Node
from .names import Maker
from .protocol import BODY

if TYPE_CHECKING:
    from .negotiation import Agreement
    from .state import Overlay

_SECOND = 1_000_000_000


class Entries:
    """Handlers; each gets the node id of the request and its size."""

    def __init__(
        self, overlay: Overlay, buffer: Buffer, answers: Answers, agreed: Agreement
    ) -> None:
        self._overlay = overlay
        self._table = overlay.table
        self._nodes = overlay.table.nodes
        self._buffer = buffer
        self._data = buffer.data
        self._view = buffer.view
        self._answers = answers
        self._agreed = agreed

    def handlers(self) -> dict[int, Handler]:
        """Which request is answered by which handler."""
        return {
            protocol.LOOKUP: self.lookup,
            protocol.FORGET: self.forget,
            protocol.BATCH_FORGET: self.batch_forget,
            protocol.GETATTR: self.getattr,
            protocol.SETATTR: self.setattr,
            protocol.MKNOD: self.mknod,
            protocol.MKDIR: self.mkdir,
            protocol.SYMLINK: self.symlink,
            protocol.LINK: self.link,
            protocol.UNLINK: self.unlink,
            protocol.RENAME: self.rename,
            protocol.RENAME2: self.rename2,
            protocol.CREATE: self.create,
            protocol.TMPFILE: self.tmpfile,
            protocol.GETXATTR: self.getxattr,
        }

    def _dir(self, node_id: int) -> Dir:
        node = self._nodes[node_id]
        if not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return node

    def _maker(self, mode: int) -> Maker:
        return Maker(mode, *protocol.CALLER.unpack_from(self._data, protocol.CALLER_AT))

    def _enter(self, node: Node, st: os.stat_result) -> bytes:
        """An answer that gives the kernel one more reference to a node."""
        node.lookups += 1
        return self._answers.entry(node.id, node, st)

    def lookup(self, parent: int, size: int) -> bytes:
        name = bytes(self._view[BODY : size - 1])
        found = lookup.enter(self._overlay, self._dir(parent), name)
        return self._answers.nothing if found is None else self._answers.entry(*found)

    def forget(self, node_id: int, size: int) -> None:
        self._table.forget(node_id, *protocol.FORGET_IN.unpack_from(self._data, BODY))

    def batch_forget(self, node_id: int, size: int) -> None:
        count, _ = protocol.BATCH_FORGET_IN.unpack_from(self._data, BODY)
        begin = BODY + protocol.BATCH_FORGET_IN.size
        end = begin + count * protocol.FORGET_ONE.size
        forget = self._table.forget
        for one in protocol.FORGET_ONE.iter_unpack(self._buffer.view[begin:end]):
            forget(*one)

    def getattr(self, node_id: int, size: int) -> bytes:
        node = self._nodes[node_id]
        return self._answers.attributes(node, node.stat())

    def setattr(self, node_id: int, size: int) -> bytes:
        fields = protocol.SETATTR_IN.unpack_from(self._data, BODY)
        valid, _, _, length, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            fields
        )
        wish = attributes.Wish()
        if valid & protocol.FATTR_MODE:
            wish.mode = mode
        if valid & protocol.FATTR_UID:
            wish.uid = uid
        if valid & protocol.FATTR_GID:
            wish.gid = gid
        if valid & protocol.FATTR_SIZE:
            wish.size = length
            wish.kill = bool(valid & protocol.FATTR_KILL_SUIDGID)
        if valid & protocol.FATTR_ATIME:
            wish.atime_ns = atime * _SECOND + atime_ns
        if valid & protocol.FATTR_MTIME:
            wish.mtime_ns = mtime * _SECOND + mtime_ns
        node = self._nodes[node_id]
        return self._answers.attributes(node, attributes.setattr(self._overlay, node, wish))

    def mknod(self, parent: int, size: int) -> bytes:
        mode, rdev, _, _ = protocol.MKNOD_IN.unpack_from(self._data, BODY)
        name = self._buffer.name(BODY + protocol.MKNOD_IN.size, size)
        by = self._maker(mode)
        if stat.S_ISREG(mode):
            return self._enter(*names.create(self._overlay, self._dir(parent), name, by))
        return self._enter(*names.mknod(self._overlay, self._dir(parent), name, rdev, by))

    def mkdir(self, parent: int, size: int) -> bytes:
        mode, _ = protocol.MKDIR_IN.unpack_from(self._data, BODY)
        name = self._buffer.name(BODY + protocol.MKDIR_IN.size, size)
        by = self._maker(mode)
        return self._enter(*names.mkdir(self._overlay, self._dir(parent), name, by))

    def symlink(self, parent: int, size: int) -> bytes:
        name, target = self._buffer.names(BODY, size)
        by = self._maker(0o777)
        return self._enter(*names.symlink(self._overlay, self._dir(parent), name, target, by))

    def link(self, parent: int, size: int) -> bytes:
        (node_id,) = protocol.LINK_IN.unpack_from(self._data, BODY)
        name = self._buffer.name(BODY + protocol.LINK_IN.size, size)
        node = self._nodes[node_id]
        return self._enter(node, names.link(self._overlay, node, self._dir(parent), name))

    def unlink(self, parent: int, size: int) -> bytes:
        names.unlink(self._overlay, self._dir(parent), self._buffer.name(BODY, size))
        return b""

    def rename(self, parent: int, size: int) -> bytes:
        (new_parent,) = protocol.RENAME_IN.unpack_from(self._data, BODY)
        return self._rename(parent, new_parent, BODY + protocol.RENAME_IN.size, size, 0)

    def rename2(self, parent: int, size: int) -> bytes:
        new_parent, flags, _ = protocol.RENAME2_IN.unpack_from(self._data, BODY)
        return self._rename(parent, new_parent, BODY + protocol.RENAME2_IN.size, size, flags)

    def _rename(self, parent: int, new_parent: int, begin: int, size: int, flags: int) -> bytes:
        name, new_name = self._buffer.names(begin, size)
        old, new = self._dir(parent), self._dir(new_parent)
        rename.rename(self._overlay, old, name, new, new_name, flags)
        return b""

    def create(self, parent: int, size: int) -> bytes:
        if self._agreed.untold_opens:
            # One request less than MKNOD and what the kernel does by itself then.
            raise OSError(errno.ENOSYS, "mknod and open")
        _, mode, _, _ = protocol.CREATE_IN.unpack_from(self._data, BODY)
        name = self._buffer.name(BODY + protocol.CREATE_IN.size, size)
        by = self._maker(mode | stat.S_IFREG)
        return self._open(*names.create(self._overlay, self._dir(parent), name, by))

    def tmpfile(self, parent: int, size: int) -> bytes:
        _, mode, _, _ = protocol.CREATE_IN.unpack_from(self._data, BODY)
        by = self._maker(mode | stat.S_IFREG)
        return self._open(*names.tmpfile(self._overlay, self._dir(parent), by))

    def _open(self, node: Node, st: os.stat_result) -> bytes:
        """The answer for a new file that is open."""
        if not self._agreed.untold_opens:
            node.opens += 1
        flags = protocol.FOPEN_KEEP_CACHE
        return self._enter(node, st) + protocol.OPEN_OUT.pack(0, flags, 0)

    def getxattr(self, node_id: int, size: int) -> bytes | int:
        room, _ = protocol.GETXATTR_IN.unpack_from(self._data, BODY)
        name = self._buffer.name(BODY + protocol.GETXATTR_IN.size, size)
        value = attributes.getxattr(self._overlay, self._nodes[node_id], name)
        if value is None:
            return errno.ENODATA
        if not room:
            return protocol.GETXATTR_OUT.pack(len(value), 0)
        if len(value) > room:
            raise OSError(errno.ERANGE, "more than there is room for")
        return value

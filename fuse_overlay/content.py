"""The requests about the content of files, all of which our own loop answers."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from . import files, protocol
from .device import MAX_WRITE, Buffer, Handler
from .protocol import BODY
from .splicing import Splicer

if TYPE_CHECKING:
    from .negotiation import Agreement
    from .state import Overlay

_DATA = BODY + protocol.READ_IN_SIZE  # where the data of a WRITE begin
_READ_IN = protocol.READ_IN.unpack_from
_SMALL = 1 << 15  # up to here one more copy costs less than two buffers


class Content:
    """Handlers; each gets the node id of the request and its size.

    Files are known by their node ids alone: the handles in the requests say nothing.
    """

    def __init__(self, overlay: Overlay, buffer: Buffer, agreed: Agreement, device: int) -> None:
        self._overlay = overlay
        self._splicer = Splicer(device)
        self._nodes = overlay.table.nodes
        self._data = buffer.data
        self._view = buffer.view
        self._agreed = agreed
        self._out = memoryview(bytearray(MAX_WRITE))

    def handlers(self) -> dict[int, Handler]:
        """Which request is answered by which handler."""
        return {
            protocol.OPEN: self.open,
            protocol.READ: self.read,
            protocol.WRITE: self.write,
            protocol.FLUSH: self.flush,
            protocol.RELEASE: self.release,
            protocol.FSYNC: self.fsync,
            protocol.FALLOCATE: self.fallocate,
            protocol.LSEEK: self.lseek,
            protocol.COPY_FILE_RANGE: self.copy_file_range,
        }

    def open(self, node_id: int, size: int) -> bytes | int:
        if self._agreed.untold_opens:
            return errno.ENOSYS  # no need to ask
        flags, _ = protocol.OPEN_IN.unpack_from(self._data, BODY)
        files.open_file(self._overlay, self._nodes[node_id], flags)
        return protocol.OPEN_OUT.pack(0, protocol.FOPEN_KEEP_CACHE, 0)

    def read(self, node_id: int, size: int) -> bytes | memoryview | None:
        _, offset, count, _ = _READ_IN(self._data, BODY)
        node = self._nodes[node_id]
        fd = node.fd if node.fd >= 0 else files.readable_fd(self._overlay, node)
        if count <= _SMALL:
            return os.pread(fd, count, offset)
        (unique,) = protocol.UNIQUE.unpack_from(self._data, protocol.UNIQUE_AT)
        if self._splicer.answer(unique, fd, offset, count):
            return None
        out = self._out
        return out[: os.preadv(fd, (out[:count],), offset)]

    def write(self, node_id: int, size: int) -> bytes:
        _, offset, count, flags = _READ_IN(self._data, BODY)
        if _DATA + count > size:
            raise OSError(errno.EINVAL, "not all of the data")
        kill = bool(flags & protocol.WRITE_KILL_SUIDGID)
        data = self._view[_DATA : _DATA + count]
        files.write(self._overlay, self._nodes[node_id], offset, data, kill=kill)
        return protocol.WRITE_OUT.pack(count, 0)

    def flush(self, node_id: int, size: int) -> int:
        # Nothing is gathered here; the kernel takes ENOSYS as "never ask again".
        return errno.ENOSYS

    def release(self, node_id: int, size: int) -> bytes:
        if not self._agreed.untold_opens:
            self._overlay.table.released(self._nodes[node_id])
        return b""

    def fsync(self, node_id: int, size: int) -> bytes:
        _, flags, _ = protocol.FSYNC_IN.unpack_from(self._data, BODY)
        data_only = bool(flags & protocol.FSYNC_FDATASYNC)
        files.sync(self._overlay, self._nodes[node_id], data_only=data_only)
        return b""

    def fallocate(self, node_id: int, size: int) -> bytes:
        _, offset, length, mode, _ = protocol.FALLOCATE_IN.unpack_from(self._data, BODY)
        files.allocate(self._overlay, self._nodes[node_id], offset, length, mode)
        return b""

    def lseek(self, node_id: int, size: int) -> bytes | int:
        if self._agreed.writeback:
            # What the kernel has gathered would be taken for a hole. It falls back to "no holes".
            return errno.ENOSYS
        _, offset, whence, _ = protocol.LSEEK_IN.unpack_from(self._data, BODY)
        node = self._nodes[node_id]
        if node.kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, "not a regular file")
        found = os.lseek(files.readable_fd(self._overlay, node), offset, whence)
        return protocol.LSEEK_OUT.pack(found)

    def copy_file_range(self, node_id: int, size: int) -> bytes:
        fields = protocol.COPY_FILE_RANGE_IN.unpack_from(self._data, BODY)
        _, start, target_id, _, offset, count, _ = fields
        source, target = self._nodes[node_id], self._nodes[target_id]
        done = files.copy_range(self._overlay, source, start, target, offset, count)
        return protocol.WRITE_OUT.pack(done, 0)

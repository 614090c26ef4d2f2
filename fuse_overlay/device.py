"""The loop that reads requests from /dev/fuse and writes the answers.

One request is answered before the next is read, into one buffer that all requests share. A handler
gets the node id and the size of the request, reads the rest from the buffer, and returns the answer
without its header: bytes, a buffer, an errno, or None where the kernel expects no answer. What it
raises becomes an errno, too: an OSError its own, anything else EIO and one line in the log.
"""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress

from .inodes import UnknownNode
from .protocol import BATCH_FORGET, FORGET, IN_HEADER, IN_HEADER_SIZE, OUT_HEADER

log = logging.getLogger("fuse_overlay")

MAX_WRITE = 1 << 20
"""Bytes that one request moves at most: as many as the kernel allows by default (256 pages)."""

Answer = bytes | memoryview | int | None
Handler = Callable[[int, int], Answer]

_OPCODES = 64
_SILENT = (FORGET, BATCH_FORGET)


class Buffer:
    """Where requests are read to. All handlers of a device share it."""

    def __init__(self) -> None:
        self.data = bytearray(MAX_WRITE + 4096)
        self.view = memoryview(self.data)

    def name(self, begin: int, end: int) -> bytes:
        """The one name in a request, which a NUL ends."""
        return bytes(self.view[begin : end - 1])

    def names(self, begin: int, end: int) -> list[bytes]:
        """The two names in a request. ValueError for what the kernel would never send."""
        name, other = bytes(self.view[begin : end - 1]).split(b"\0")
        return [name, other]


class Device:
    """An open /dev/fuse, and who answers which request."""

    def __init__(self, fd: int, buffer: Buffer, other: Handler) -> None:
        self.fd = fd
        self.buffer = buffer
        self._handlers: list[Handler] = [other] * _OPCODES
        self._other = other
        self._refused: list[bytes] = []
        self.may_retry: Callable[[], bool] = lambda: False
        """Whether what was refused for want of room may work when all FORGETs have been read."""

    def handle(self, handlers: dict[int, Handler]) -> None:
        """Give requests, by opcode, to their handlers."""
        for opcode, handler in handlers.items():
            self._handlers[opcode] = handler

    def serve(self) -> None:
        """Answer requests until the file system is unmounted."""
        data = self.buffer.data
        fd = self.fd
        handlers = self._handlers
        unpack, pack, write = IN_HEADER.unpack_from, OUT_HEADER.pack, os.write
        with io.FileIO(fd, "rb", closefd=False) as file:
            read = file.readinto
            while True:
                try:
                    size = read(data)
                    if not size:
                        if size == 0:
                            return
                        self._retry()  # nothing to read any more
                        continue
                except OSError as err:
                    if err.errno == errno.ENODEV:  # unmounted
                        return
                    if err.errno in (errno.ENOENT, errno.EINTR):  # the request was taken back
                        continue
                    raise
                try:  # what every request costs
                    length, opcode, unique, node_id = unpack(data)
                    if length != size or opcode >= _OPCODES:
                        self._answer_odd(size)
                        continue
                    answer = handlers[opcode](node_id, size)
                    if answer.__class__ is bytes:
                        write(fd, pack(16 + len(answer), 0, unique) + answer)
                    elif answer is not None:
                        self._send(unique, answer)
                except Exception as err:
                    self._fail(err, size)

    def _send(self, unique: int, answer: bytes | memoryview | int) -> None:
        if isinstance(answer, int):
            os.write(self.fd, OUT_HEADER.pack(16, -answer, unique))
        else:
            os.writev(self.fd, (OUT_HEADER.pack(16 + len(answer), 0, unique), answer))

    def _answer_odd(self, size: int, *, again: bool = False) -> None:
        """Answer a request that may be anything, without haste."""
        if size < IN_HEADER_SIZE:
            log.error("a request of %d bytes", size)
            return
        length, opcode, unique, node_id = IN_HEADER.unpack_from(self.buffer.data)
        try:
            if length != size:
                raise ValueError(f"{size} bytes of a request of {length}")
            handler = self._handlers[opcode] if opcode < _OPCODES else self._other
            answer = handler(node_id, size)
            if answer is not None:
                self._send(unique, answer)
        except Exception as err:
            self._fail(err, size, again=again)

    def _fail(self, err: Exception, size: int, *, again: bool = False) -> None:
        """Answer by an errno: the request in the buffer could not be done."""
        _, opcode, unique, _ = IN_HEADER.unpack_from(self.buffer.data)
        if isinstance(err, OSError):
            code = err.errno or errno.EIO
        elif isinstance(err, UnknownNode):
            code = errno.ESTALE
        else:
            log.error("request %d failed", opcode, exc_info=err)
            code = errno.EIO
        if code == errno.ENOSPC and not again and self.may_retry():
            self._refused.append(bytes(self.buffer.view[:size]))
            os.set_blocking(self.fd, False)
        elif opcode not in _SILENT:
            # If it was the answer that failed because nobody waits for it, so does this one.
            with suppress(FileNotFoundError):
                os.write(self.fd, OUT_HEADER.pack(16, -code, unique))

    def _retry(self) -> None:
        """Do what was refused once more, after all requests that were there."""
        os.set_blocking(self.fd, True)
        refused, self._refused = self._refused, []
        for request in refused:
            self.buffer.view[: len(request)] = request
            self._answer_odd(len(request), again=True)

"""The loop between the kernel and the handlers, fed by hand: nothing that arrives may end it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from fuse_overlay.device import Buffer, Device
from fuse_overlay.inodes import UnknownNode
from fuse_overlay.protocol import FORGET, GETATTR, IN_HEADER_SIZE, LOOKUP, READ

HEADER = struct.Struct("=IIQQIIIHH")


def request(opcode: int, unique: int, body: bytes = b"", length: int | None = None) -> bytes:
    size = IN_HEADER_SIZE + len(body) if length is None else length
    return HEADER.pack(size, opcode, unique, 1, 0, 0, 0, 0, 0) + body


class Loop:
    """A device whose kernel is the test."""

    def __init__(self) -> None:
        self.kernel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(10)
        self._theirs = theirs
        self.buffer = Buffer()
        self.device = Device(theirs.fileno(), self.buffer, self._other)
        self.device.handle(
            {LOOKUP: self._lookup, GETATTR: self._fail, READ: self._read, FORGET: self._fail}
        )
        self.refusals = 0
        self._thread = threading.Thread(target=self.device.serve)
        self._thread.start()

    def _other(self, node_id: int, size: int) -> bytes:
        raise OSError(errno.ENOSYS, "not known")

    def _lookup(self, node_id: int, size: int) -> bytes:
        name = self.buffer.name(IN_HEADER_SIZE, size)
        if name == b"unknown":
            raise UnknownNode(5)
        if name == b"full" and self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "full")
        return name

    def _fail(self, node_id: int, size: int) -> bytes:
        raise RuntimeError("a bug")

    def _read(self, node_id: int, size: int) -> memoryview:
        return memoryview(b"content")

    def ask(self, data: bytes) -> tuple[int, int, bytes]:
        """Send a request; errno, unique and content of the answer."""
        self.kernel.send(data)
        return self.answer()

    def answer(self) -> tuple[int, int, bytes]:
        packet = self.kernel.recv(1 << 16)
        length, code, unique = struct.unpack_from("=IiQ", packet)
        assert length == len(packet)
        return -code, unique, packet[16:]

    def close(self) -> None:
        self.kernel.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._theirs.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_requests_are_answered_under_their_own_numbers(loop: Loop) -> None:
    """Each answer has the number of its request, its length, and what the handler returned."""
    assert loop.ask(request(LOOKUP, 7, b"name\0")) == (0, 7, b"name")
    assert loop.ask(request(READ, 8)) == (0, 8, b"content")


@pytest.mark.parametrize("opcode", [0, 1000, 1 << 31, 63, 64])
def test_unknown_requests_are_refused(loop: Loop, opcode: int) -> None:
    """Whatever is not known goes to the handler of all others, whatever its number."""
    assert loop.ask(request(opcode, 5)) == (errno.ENOSYS, 5, b"")


def test_bugs_and_unknown_nodes_are_errors(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a handler is EIO and a line in the log; an unknown node is ESTALE."""
    assert loop.ask(request(GETATTR, 5)) == (errno.EIO, 5, b"")
    assert "request 3 failed" in caplog.text
    assert loop.ask(request(LOOKUP, 6, b"unknown\0")) == (errno.ESTALE, 6, b"")


@pytest.mark.parametrize("length", [0, 39, 41, 1 << 31])
def test_a_wrong_length_is_an_error(loop: Loop, length: int) -> None:
    """A request that is not as long as it says is EIO."""
    assert loop.ask(request(LOOKUP, 5, length=length)) == (errno.EIO, 5, b"")


def test_what_is_not_even_a_header_is_passed_over(loop: Loop) -> None:
    """Less than a header has nobody to answer to; the next request is served."""
    loop.kernel.send(b"x")
    loop.kernel.send(b"y" * 23)
    assert loop.ask(request(LOOKUP, 5, b"name\0")) == (0, 5, b"name")


def test_forget_is_never_answered(loop: Loop) -> None:
    """Not even if it fails."""
    loop.kernel.send(request(FORGET, 4))
    assert loop.ask(request(LOOKUP, 5, b"name\0")) == (0, 5, b"name")


def test_what_was_refused_for_want_of_room_is_tried_again(loop: Loop) -> None:
    """ENOSPC waits until all requests that were there have been read, once."""
    loop.device.may_retry = lambda: True
    loop.refusals = 1
    assert loop.ask(request(LOOKUP, 5, b"full\0")) == (0, 5, b"full")
    loop.refusals = 2
    assert loop.ask(request(LOOKUP, 6, b"full\0")) == (errno.ENOSPC, 6, b"")
    loop.refusals = 0
    os.set_blocking(loop.device.fd, True)
    assert loop.ask(request(LOOKUP, 7, b"name\0")) == (0, 7, b"name")

"""Copying the container's streams between its pipes or pty and the client's descriptors.

The client's descriptors are never made non-blocking: the flag belongs to the open file, which the
user's shell shares. A pipe or terminal is opened anew through /proc/self/fd instead, which gives
an open file of our own. No threads: after unshare(CLONE_NEWPID) a process can't start any
(clone(2), CLONE_THREAD), and one that could hang must not be needed.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

import trio

_CHUNK = 1 << 20
# A blocking pipe or terminal that polls writable takes at least this much (pipe(7), PIPE_BUF;
# n_tty wakes writers at 256 bytes).
_PIPE_ATOMIC = 4096
_TTY_ATOMIC = 256


class Sink:
    """Where output goes: one of the client's descriptors, until the client is gone."""

    def __init__(self, descriptor: int | None) -> None:
        self.broken = False  # the reader closed its end
        self._scope: trio.CancelScope | None = None
        self._descriptor = descriptor
        self._waits = descriptor is not None and not _never_blocks(descriptor)
        self._limit = _CHUNK
        self._socket: socket.socket | None = None
        self._own: int | None = None  # an open file of ours, to be closed
        if descriptor is not None and self._waits:
            self._open_anew(descriptor)

    def _open_anew(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            return
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            self._descriptor = self._own = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:  # somebody else's terminal, after su(1)
            self._limit = _PIPE_ATOMIC if stat.S_ISFIFO(mode) else _TTY_ATOMIC

    async def write(self, data: bytes) -> None:
        """Write all of *data*; what a vanished client can't take is dropped."""
        view = memoryview(data)
        try:
            with trio.CancelScope() as self._scope:
                while view and self._descriptor is not None and not self.broken:
                    if self._waits and self._limit < _CHUNK:
                        await trio.lowlevel.wait_writable(self._descriptor)
                    try:
                        view = view[self._put(self._descriptor, view[: self._limit]) :]
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._descriptor)
        except trio.ClosedResourceError:
            pass  # detached meanwhile
        except (BrokenPipeError, ConnectionResetError):
            self.broken = True
        except OSError:
            self._descriptor = None  # a terminal that hung up, a full disk

    def _put(self, descriptor: int, view: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(descriptor, view)

    def detach(self) -> None:
        """The client is gone: drop what comes, and a write that waits."""
        self._descriptor = None
        if self._scope is not None:
            self._scope.cancel()
        if self._socket is not None:
            self._socket.close()
        own, self._own = self._own, None
        if own is not None:
            # The reader must see the end.
            trio.lowlevel.notify_closing(own)
            os.close(own)


class FanOut:
    """Where output goes: a client's sink, and those of others who attached later."""

    def __init__(self, first: Sink) -> None:
        self._first = first
        self._others: list[Sink] = []

    @property
    def broken(self) -> bool:
        """True when the first reader closed its end and nobody else reads."""
        return self._first.broken and not self._others

    async def write(self, data: bytes) -> None:
        for sink in (self._first, *self._others):
            await sink.write(data)

    def add(self, sink: Sink) -> None:
        self._others.append(sink)

    def remove(self, sink: Sink) -> None:
        """Let go of a sink; a write of it that waits is given up."""
        self._others.remove(sink)
        sink.detach()

    def detach(self) -> None:
        """The first client is gone."""
        self._first.detach()


async def copy_output(
    source: int, sink: FanOut, seen: Callable[[bytes], bytes], *, close: bool = True
) -> None:
    """Copy from *source* (ours, made non-blocking) to *sink* until its end.

    *seen* gets all, and returns what of it may go on.

    When the sink's reader is gone the source is closed, so that the writer gets SIGPIPE as it
    would without a container between.
    """
    os.set_blocking(source, False)
    try:
        while not sink.broken:
            try:
                data = os.read(source, _CHUNK)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(source)
                continue
            except OSError:  # EIO: the last holder of a pty's slave has closed it
                return
            if not data:
                return
            await sink.write(seen(data))
    finally:
        if close:
            os.close(source)


async def copy_input(
    source: int, target: int, inspect: Callable[[bytes], bytes | None] | None = None
) -> None:
    """Copy from the client's *source* to *target* (ours) until its end.

    *inspect* may change what goes through; it returns None to end the copying (detach keys).
    """
    os.set_blocking(target, False)
    plain = _never_blocks(source)
    while True:
        if not plain:
            await trio.lowlevel.wait_readable(source)
        else:
            await trio.lowlevel.checkpoint()
        try:
            data = os.read(source, 64 << 10)
        except OSError:
            return
        if not data:
            return
        if inspect is not None:
            kept = inspect(data)
            if kept is None:
                return
            data = kept
        while data:
            try:
                data = data[os.write(target, data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(target)
            except OSError:
                return  # nobody reads it any more


def _never_blocks(descriptor: int) -> bool:
    """True for what epoll(7) can't watch and what never blocks: files, /dev/null."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    return stat.S_ISCHR(mode) and not os.isatty(descriptor)

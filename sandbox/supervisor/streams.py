"""Copying the container's streams between its pipes or pty and the client's descriptors.

The client's descriptors are never made non-blocking: the flag belongs to the open file, which the
user's shell shares. A write that might block goes to a thread.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable

import trio

_CHUNK = 1 << 20
# A pipe that polls writable takes this much without blocking (pipe(7), PIPE_BUF).
_ATOMIC = 4096


class Sink:
    """Where output goes: one of the client's descriptors, until the client is gone."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor
        self.broken = False  # the reader closed its end
        self._never_blocks = descriptor is None or _is_file(descriptor)
        self._scope: trio.CancelScope | None = None

    async def write(self, data: bytes) -> None:
        """Write all of *data*; what a vanished client can't take is dropped."""
        descriptor = self.descriptor
        if descriptor is None or self.broken:
            return
        try:
            if self._never_blocks or (len(data) <= _ATOMIC and _writable(descriptor)):
                data = data[os.write(descriptor, data) :]
            if data:
                with trio.CancelScope() as self._scope:
                    await trio.to_thread.run_sync(
                        _write_all, descriptor, data, abandon_on_cancel=True
                    )
        except BrokenPipeError:
            self.broken = True
        except OSError:
            self.descriptor = None  # a terminal that hung up, a full disk

    def detach(self) -> None:
        """The client is gone: drop what comes, and a write that hangs."""
        self.descriptor = None
        if self._scope is not None:
            self._scope.cancel()


async def copy_output(
    source: int, sink: Sink, seen: Callable[[bytes], None], *, close: bool = True
) -> None:
    """Copy from *source* (ours, made non-blocking) to *sink* until its end; *seen* gets all.

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
            seen(data)
            await sink.write(data)
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
    plain = _is_file(source)
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


def _is_file(descriptor: int) -> bool:
    """True for what epoll(7) can't watch and what never blocks: files, /dev/null."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    return stat.S_ISCHR(mode) and not os.isatty(descriptor)


def _writable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return any(event & select.POLLOUT for _, event in poller.poll(0))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else made it non-blocking
            select.select([], [descriptor], [])

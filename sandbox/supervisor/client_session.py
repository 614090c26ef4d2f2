"""The supervisor's side of its client: signals, terminal size, and the client's end."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

import trio

from sandbox import wire
from sandbox.link import ClientLink

# A client that was stopped (SIGSTOP) must not hold up its container for ever.
_TERMINAL_SECONDS = 5.0


class ClientSession:
    """Reads the client's messages until it is gone."""

    def __init__(self, link: ClientLink) -> None:
        self.link = link
        self._connection = link.take_over()
        self.terminal_ready = trio.Event()

    async def make_raw(self) -> None:
        """Have the client put its terminal in raw mode; return when that is done."""
        self.link.send({"raw": True})
        with trio.move_on_after(_TERMINAL_SECONDS):
            await self.terminal_ready.wait()

    async def follow(self, on_signal: Callable[[int], None], on_resize: Callable[[], None]) -> None:
        """Pass the client's messages on; return when the client is gone."""
        while True:
            await trio.lowlevel.wait_readable(self._connection)
            try:
                message = wire.receive(self._connection)
            except wire.Disconnected:
                self.terminal_ready.set()
                return
            if message.get("ready"):
                self.terminal_ready.set()
            if "signal" in message:
                on_signal(int(message["signal"]))
            elif "resize" in message:
                on_resize()


def copy_window_size(source: int, target: int) -> None:
    """Give terminal *target* the size of terminal *source* (ioctl_tty(2), TIOCSWINSZ)."""
    try:
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
    except OSError:
        pass  # not a terminal, or it hung up


def set_window_size(terminal: int, rows: int, columns: int) -> None:
    """Give *terminal* a size. Raises ValueError for what is none."""
    try:
        size = struct.pack("4H", rows, columns, 0, 0)
    except struct.error as err:
        raise ValueError(str(err)) from err
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

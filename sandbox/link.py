"""A command process's connection to its client."""

from __future__ import annotations

import fcntl
import io
import json  # noqa: F401  # for wire.receive: a handler in the middle of its import finds half of it
import os
import signal
import socket
import sys
from typing import Any

from sandbox import wire


class ClientLink:
    """Tells the client what to do and learns of its signals and of its end.

    A plain command is interrupted as if it were the client's own (`relay_signals`); a supervisor
    takes the connection over and reads the messages itself (`take_over`).
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.finished = False
        self.handed_over = False  # to another process, which tells it how it ends
        self.result: dict[str, Any] = {}  # goes with the exit code, for programs

    def relay_signals(self) -> None:
        """Let the client's signals and its death act on this process (SIGIO on the socket)."""
        signal.signal(signal.SIGIO, self._on_message)
        fcntl.fcntl(self.connection, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self.connection, fcntl.F_GETFL)
        fcntl.fcntl(self.connection, fcntl.F_SETFL, flags | os.O_ASYNC)
        self._on_message(signal.SIGIO, None)  # what came before raises no signal any more

    def take_over(self) -> socket.socket:
        """End `relay_signals` and return the connection."""
        flags = fcntl.fcntl(self.connection, fcntl.F_GETFL)
        fcntl.fcntl(self.connection, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        return self.connection

    def _on_message(self, _number: int, _frame: object) -> None:
        # Called again in the middle it would take the rest of a message for one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        try:
            while self._receive():
                pass
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})

    def _receive(self) -> bool:
        """Act on a message; False when there is none."""
        try:
            if not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                self._die(signal.SIGHUP)
            message = wire.receive(self.connection)
        except BlockingIOError:
            return False
        except (OSError, wire.Disconnected):
            self._die(signal.SIGHUP)
            return False
        number = message.get("signal")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            self._die(number)
        return True

    def _die(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; a client that is gone does not matter."""
        try:
            wire.send(self.connection, message)
        except OSError:
            pass

    def release(self, code: int) -> None:
        """Let the client go with *code*, while this process lives on (a detached container)."""
        if not self.finished and not self.handed_over:
            self.finished = True
            if isinstance(sys.stderr, io.StringIO):  # for a program (`library`)
                self.result["messages"] = sys.stderr.getvalue()
            self.send({"exit": code, **self.result})

    def finish(self, code: int) -> None:
        """Tell the client the exit code, once, and close the connection."""
        self.release(code)
        self.connection.close()

"""`sbx attach`: another client on the streams of a running container."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import sys
import termios
from typing import Any

from sandbox import wire
from sandbox.engine import containers
from sandbox.engine.context import Context
from sandbox.errors import Conflict, SbxError
from sandbox.link import ClientLink
from sandbox.state import Container


def attach(
    container: Container, context: Context, *, stdin: bool = True, proxy_signals: bool = True
) -> int:
    """Stay with a running container; return its exit code, or 0 when the user left it.

    Raises Conflict when it does not run, or is paused.
    """
    name = container.spec.name
    if not container.running:
        raise Conflict(
            f"container {name} does not run", hint=f"sbx start {name}, or sbx start -a {name}"
        )
    if container.status.paused:
        raise Conflict(f"container {name} is paused", hint=f"sbx unpause {name}")
    assert context.link is not None
    session = _Session(container, context, context.link, proxy_signals)
    with session.control:
        return session.stay(feed=stdin and container.spec.interactive)


class _Session:
    def __init__(
        self, container: Container, context: Context, link: ClientLink, proxy_signals: bool
    ) -> None:
        self.container = container
        self.context = context
        self.link = link
        self.proxy_signals = proxy_signals
        self.client = link.take_over()
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def stay(self, *, feed: bool) -> int:
        if self.container.spec.tty:
            if feed and os.isatty(0):
                self._make_raw()
            self._resize()
        sys.stdout.flush()
        request = json.dumps({"attach": {"stdin": feed}}).encode() + b"\n"
        try:
            socket_path = containers.socket_of(self.container, self.context)
            containers.connect(self.control, socket_path)
            socket.send_fds(self.control, [request], [0, 1, 2])
        except OSError as err:
            raise SbxError(
                f"the supervisor of container {self.container.spec.name} does not answer",
                detail=err.strerror,
            ) from err
        return self._follow()

    def _make_raw(self) -> None:
        self.link.send({"raw": True})
        try:
            while not wire.receive(self.client).get("ready"):
                pass
        except wire.Disconnected:
            os._exit(1)  # nobody is left to be told

    def _follow(self) -> int:
        poller = select.poll()
        poller.register(self.client, select.POLLIN)
        poller.register(self.control, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self.control.fileno() in ready:
                return self._result()
            try:
                self._on_message(wire.receive(self.client))
            except wire.Disconnected:
                return 1

    def _result(self) -> int:
        with self.control.makefile("rb") as lines:
            line = lines.readline()
        if not line:  # the supervisor was killed
            return containers.wait(self.container, self.context)
        answer = json.loads(line)
        if "error" in answer:
            raise SbxError(str(answer["error"]))
        return int(answer.get("exit_code", 0))

    def _on_message(self, message: dict[str, Any]) -> None:
        if "resize" in message:
            self._resize()
        elif "signal" in message:
            number = int(message["signal"])
            if not self.proxy_signals:
                self.link.finish(128 + number)
                os._exit(128 + number)
            containers.ask(self.container, {"signal": number}, self.context)

    def _resize(self) -> None:
        """Give the container's terminal the size of the client's."""
        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        except OSError:
            return
        rows, columns, _, _ = struct.unpack("4H", size)
        containers.ask(self.container, {"resize": [rows, columns]}, self.context)

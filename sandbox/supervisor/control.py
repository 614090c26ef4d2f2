"""The supervisor's own socket: how other commands signal, stop and await its container.

One JSON object a line each way; the directory is private to the user.

    {"signal": 15}                          -> {"ok": true}
    {"stop": {"signal": 15, "timeout": 10}} -> {"ok": true} once the container has ended
    {"wait": true}                          -> {"exit_code": 0} once it has ended
    {"denials": true}                       -> {"denials": […]} that were counted so far
    {"resize": [24, 80]}                    -> {"ok": true}
    {"attach": {"stdin": true}} + streams   -> {"exit_code": 0} once it has ended, or
                                               {"detached": true}; until then the three descriptors
                                               that came along are fed and read

What the engine answers (pause, update …) is in `engine.live`. An answer {"error", "hint"} is what
kept the supervisor from doing it.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

# Seconds that those who asked get to read their answer, once the container has ended.
_LAST_ANSWERS = 1.0


class Peer(Struct, frozen=True):
    """Who asked, and the descriptors that came with the request."""

    stream: trio.SocketStream
    descriptors: tuple[int, ...] = ()

    async def gone(self) -> None:
        """Wait until the other end is closed."""
        with suppress(trio.BrokenResourceError):
            while await self.stream.receive_some(64):
                pass


Handler = Callable[[dict[str, Any], Peer], Awaitable[dict[str, Any]]]


def socket_path(runtime: Path, container_id: str) -> Path:
    """Return the socket of a container: short, for sun_path holds 107 bytes (unix(7))."""
    return runtime / f"c-{container_id[:24]}"


async def listen(
    path: Path,
    handler: Handler,
    ended: trio.Event,
    delivered: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control socket until *ended*, then finish the answers that are due.

    Who attached is due an answer when all output is *delivered*.
    """
    path.unlink(missing_ok=True)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    plain.bind(os.fspath(path))  # trio's would do it in a thread
    with trio.socket.from_stdlib_socket(plain) as listener:
        listener.listen(16)
        task_status.started()
        try:
            async with trio.open_nursery() as answers:
                with trio.CancelScope() as accepting:
                    answers.start_soon(_cancel_at, ended, accepting)
                    while True:
                        connection, _ = await listener.accept()
                        answers.start_soon(_answer, trio.SocketStream(connection), handler)
                await delivered.wait()
                answers.cancel_scope.deadline = trio.current_time() + _LAST_ANSWERS
        finally:
            path.unlink(missing_ok=True)


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _answer(stream: trio.SocketStream, handler: Handler) -> None:
    descriptors: list[int] = []
    async with stream:
        try:
            line = await _receive_line(stream, descriptors)
            if line is not None:
                answer = await handler(json.loads(line), Peer(stream, tuple(descriptors)))
                await stream.send_all(json.dumps(answer).encode() + b"\n")
        except (trio.BrokenResourceError, ValueError, TypeError, LookupError, OSError):
            return  # gone, or none of ours: no request may end the container
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


async def _receive_line(stream: trio.SocketStream, descriptors: list[int]) -> bytes | None:
    """Return one line, and add to *descriptors* what came with it; None at the end."""
    line = b""
    room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    while not line.endswith(b"\n"):
        part, ancillary, _, _ = await stream.socket.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += array.array("i", content)
        if not part or len(line) > 65536:
            return None
        line += part
    return line

"""The supervisor's own socket: how other commands signal, stop and await its container.

One JSON object a line each way; the directory is private to the user.

    {"signal": 15}                          -> {"ok": true}
    {"stop": {"signal": 15, "timeout": 10}} -> {"ok": true} once the container has ended
    {"wait": true}                          -> {"exit_code": 0} once it has ended
    {"denials": true}                       -> {"denials": […]} that were counted so far
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

# Seconds that those who asked get to read their answer, once the container has ended.
_LAST_ANSWERS = 1.0

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def socket_path(runtime: Path, container_id: str) -> Path:
    """Return the socket of a container: short, for sun_path holds 107 bytes (unix(7))."""
    return runtime / f"c-{container_id[:24]}"


async def listen(
    path: Path,
    handler: Handler,
    ended: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control socket until *ended*, then finish the answers that are due."""
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
                answers.cancel_scope.deadline = trio.current_time() + _LAST_ANSWERS
        finally:
            path.unlink(missing_ok=True)


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _answer(stream: trio.SocketStream, handler: Handler) -> None:
    async with stream:
        try:
            line = b""
            while not line.endswith(b"\n"):
                part = await stream.receive_some(4096)
                if not part or len(line) > 65536:
                    return
                line += part
            answer = await handler(json.loads(line))
            await stream.send_all(json.dumps(answer).encode() + b"\n")
        except (trio.BrokenResourceError, ValueError):
            return

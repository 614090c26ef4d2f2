"""Messages between the client, the launcher and command processes.

A message is four bytes of length (big-endian) and a JSON object; the first one of a connection
carries descriptors. Only what the client needs is imported here: its start is the user's wait.

    client → command   the request: {"argv", "environ", "umask", "limits", "key"} + cwd, stdin,
                       stdout, stderr
                       {"signal": n}      the client got a signal
                       {"resize": true}   the terminal's size changed
                       {"ready": true}    the terminal is in raw mode
    command → client   {"exit": code, …}  the command is done (for `run` with what became of it)
                       {"raw": true}      a terminal session begins: put the terminal in raw mode
                       {"cold": true}     not to be served from a warm process: run it yourself
"""

from __future__ import annotations

import array
import json
import socket
from typing import Any

# A request holds the environment: execve(2) bounds that by a quarter of the stack limit.
_MAX = 16 << 20


class Disconnected(Exception):
    """The other end closed the connection or sent what is not a message."""


def send(connection: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send a message. Raises OSError when the other end is gone."""
    data = json.dumps(message).encode()
    data = len(data).to_bytes(4, "big") + data
    if fds:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        data = data[connection.sendmsg([data], [rights]) :]
    connection.sendall(data)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Receive a message. Raises Disconnected."""
    return receive_with_fds(connection, 0)[0]


def receive_with_fds(connection: socket.socket, count: int) -> tuple[dict[str, Any], list[int]]:
    """Receive a message that carries up to *count* descriptors. Raises Disconnected."""
    fds: list[int] = []
    try:
        if count:
            header, ancillary, _, _ = connection.recvmsg(
                4, socket.CMSG_SPACE(4 * count), socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL
            )
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds += array.array("i", content[: len(content) - len(content) % 4])
        else:
            header = connection.recv(4, socket.MSG_WAITALL)
        size = int.from_bytes(header, "big")
        if len(header) < 4 or size > _MAX:
            raise Disconnected
        data = b""
        while len(data) < size:
            part = connection.recv(size - len(data), socket.MSG_WAITALL)
            if not part:
                raise Disconnected
            data += part
        return json.loads(data), fds
    except (OSError, ValueError):
        raise Disconnected from None

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

# The C modules below socket and json: the modules proper bring enum, re and more with them, ten
# milliseconds at the client's start.
import _json
import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A request holds the environment: execve(2) bounds that by a quarter of the stack limit.
_MAX = 16 << 20


class Disconnected(Exception):
    """The other end closed the connection or sent what is not a message."""


def send(connection: _socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send a message. Raises OSError when the other end is gone."""
    data = _encode(message).encode()
    data = len(data).to_bytes(4, "big") + data
    if fds:
        numbers = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)
        data = data[connection.sendmsg([data], [rights]) :]
    if data:  # sending nothing fails, too, where the other end has read all and closed
        connection.sendall(data)


def _encode(value: Any) -> str:
    """Return *value* as JSON, as json.dumps does."""
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{_encode(k)}:{_encode(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_encode, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def receive(connection: _socket.socket) -> dict[str, Any]:
    """Receive a message. Raises Disconnected."""
    return receive_with_fds(connection, 0)[0]


def receive_with_fds(connection: _socket.socket, count: int) -> tuple[dict[str, Any], list[int]]:
    """Receive a message that carries up to *count* descriptors. Raises Disconnected."""
    import json  # while the other side works, not before it can begin

    fds: list[int] = []
    try:
        if count:
            header, ancillary, _, _ = connection.recvmsg(
                4, _socket.CMSG_SPACE(4 * count), _socket.MSG_CMSG_CLOEXEC | _socket.MSG_WAITALL
            )
            for level, kind, content in ancillary:
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                    fds += [
                        int.from_bytes(content[i : i + 4], sys.byteorder)
                        for i in range(0, len(content) - 3, 4)
                    ]
        else:
            header = connection.recv(4, _socket.MSG_WAITALL)
        size = int.from_bytes(header, "big")
        if len(header) < 4 or size > _MAX:
            raise Disconnected
        data = b""
        while len(data) < size:
            part = connection.recv(size - len(data), _socket.MSG_WAITALL)
            if not part:
                raise Disconnected
            data += part
        return json.loads(data), fds
    except (OSError, ValueError):
        raise Disconnected from None

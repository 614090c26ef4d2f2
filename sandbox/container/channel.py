"""The socket between the supervisor and the container's init: small JSON messages, descriptors.

    init → supervisor   {"step": "userns"}            its user namespace wants its maps
                        {"step": "namespaces"}        + user and network namespace
                        {"step": "hello"}             (with credentials) pid 1 lives
                        {"step": "mounted"}           the root is complete   [+ pty master]
                        {"step": "listening"}         + seccomp listener
                        {"error": …, "detail": …, "hint": …, "exit_code": …}
    supervisor → init   {"step": "rehearse"}          only to one that is to wait
                        {"step": "go"}                [+ "assignment": of a prepared container]

It closes when the command is executed: end of file without an error is success.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from typing import Any

from sandbox.errors import SbxError

_SIZE = 64 << 10


class Channel:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return two connected ends; the first one learns the credentials of the other."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return cls(one), cls(other)

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        data = json.dumps(message).encode()[:_SIZE]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], ancillary)

    def send_error(self, error: SbxError) -> None:
        self.send(
            {
                "error": error.message[:4000],
                "detail": error.detail and error.detail[:4000],
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
        )

    def report(self, err: BaseException, otherwise: str) -> None:
        """Send what went wrong (*otherwise* names it where it is no error of ours).

        A broken channel means that the supervisor is gone: nobody is left to be told.
        """
        if not isinstance(err, SbxError):
            err = SbxError(otherwise, detail=f"{type(err).__name__}: {err}")
        try:
            self.send_error(err)
        except OSError:
            pass

    def receive(self) -> tuple[dict[str, Any] | None, list[int], int]:
        """Return (message, descriptors, sender's pid as seen here); message None at the end."""
        space = socket.CMSG_SPACE(4 * 4) + socket.CMSG_SPACE(struct.calcsize("3i"))
        data, ancillary, _, _ = self.socket.recvmsg(_SIZE, space, socket.MSG_CMSG_CLOEXEC)
        fds: list[int] = []
        pid = 0
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                fds += array.array("i", content[: len(content) - len(content) % 4])
            elif kind == socket.SCM_CREDENTIALS:
                pid = struct.unpack("3i", content[:12])[0]
        return (json.loads(data) if data else None), fds, pid

    def expect(self, step: str) -> tuple[list[int], int]:
        """Receive the message *step*; return its descriptors and the sender's pid.

        Raises the SbxError that the other end sent instead, or one when it is gone.
        """
        _, fds, pid = self.wait_for(step)
        return fds, pid

    def wait_for(self, *steps: str) -> tuple[dict[str, Any], list[int], int]:
        """Receive the message of one of *steps* with all that it says; otherwise as `expect`."""
        message, fds, pid = self.receive()
        if message is None:
            raise SbxError("the container's init ended unexpectedly", detail=f"before {steps[0]!r}")
        if "error" in message:
            raise error_from(message)
        if message.get("step") not in steps:
            raise SbxError("the container's init and the supervisor disagree", detail=str(message))
        return message, fds, pid

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()


def error_from(message: dict[str, Any]) -> SbxError:
    """Rebuild the error that `send_error` sent."""
    error = SbxError(message["error"], detail=message.get("detail"), hint=message.get("hint"))
    error.exit_code = int(message.get("exit_code", 125))
    return error

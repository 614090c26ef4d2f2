"""slirp4netns(1): where there is no pasta. Slower, and IPv4 alone."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Sequence

from sandbox.errors import Conflict
from sandbox.network import addresses
from sandbox.network.process import NETNS_PATH, READY_FD, USERNS_PATH
from sandbox.spec import Port

PROGRAM = "slirp4netns"
API_TIMEOUT = 10.0  # seconds


def command(program: str, api_socket: str | None) -> list[str]:
    """Return the command line; *api_socket* is made when ports are to be published."""
    argv = [
        program,
        "--configure",
        "--mtu=65520",
        f"--cidr={addresses.NETWORK}/{addresses.PREFIX}",
        # Closes the gateway's address, which leads to the host's loopback.
        "--disable-host-loopback",
        # Its resolver's address leads to the host's, and where that is on the loopback, to every
        # port there: libslirp looks at the address alone.
        "--disable-dns",
        "--enable-sandbox",
        "--enable-seccomp",
        f"--ready-fd={READY_FD}",
        "--netns-type=path",
        f"--userns-path={USERNS_PATH}",
    ]
    if api_socket:
        argv.append(f"--api-socket={api_socket}")
    return [*argv, NETNS_PATH, "tap0"]


def is_ready(report: bytes) -> bool:
    """True when *report* ends with the byte that --ready-fd promises, not amid a message."""
    return report == b"1" or report.endswith(b"\n1")


def publish(api_socket: str, ports: Sequence[Port]) -> None:
    """Ask the running program to forward *ports*. Raises Conflict with its words."""
    for port in ports:
        request: dict[str, object] = {
            "execute": "add_hostfwd",
            "arguments": {
                "proto": port.protocol,
                "host_addr": port.host_ip or "0.0.0.0",
                "host_port": port.host_port,
                "guest_port": port.container_port,
            },
        }
        answer = _ask(api_socket, request)
        if "error" in answer:
            raise Conflict(
                f"port {port.host_port}/{port.protocol} can't be published",
                detail=str(answer["error"]),
            )


def _ask(api_socket: str, request: dict[str, object]) -> dict[str, object]:
    """Send one request; the program answers one per connection."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(API_TIMEOUT)
        connection.connect(api_socket)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    decoded: dict[str, object] = json.loads(answer)
    return decoded

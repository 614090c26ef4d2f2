"""Published ports: resolved, checked and printed as docker does.

The network programs bind the ports, later and in another process; looking first gives an error
that names the port.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from msgspec import structs

from sandbox.errors import Conflict, InvalidSpec
from sandbox.spec import Port


def claim(ports: Sequence[Port], stack: ExitStack) -> tuple[Port, ...]:
    """Return *ports* with real host ports, all of them free now.

    TCP ports stay bound (not listening) until *stack* is closed: with SO_REUSEADDR the network
    program can bind them as well, and nobody else gets a port that was chosen here.
    Raises Conflict (in use) or InvalidSpec (no such address, privileged port, twice the same).
    """
    claimed = tuple(_claim(port, stack) for port in ports)
    for index, port in enumerate(claimed):
        if any(_same_place(port, other) for other in claimed[:index]):
            raise Conflict(f"port {describe_place(port)} is published twice")
    return claimed


def describe(port: Port) -> str:
    """Return the port as docker ps prints it: 0.0.0.0:8080->80/tcp."""
    return f"{describe_place(port)}->{port.container_port}/{port.protocol}"


def describe_place(port: Port) -> str:
    host = port.host_ip or "0.0.0.0"
    return f"[{host}]:{port.host_port}" if ":" in host else f"{host}:{port.host_port}"


def _same_place(one: Port, other: Port) -> bool:
    return (one.host_ip, one.host_port, one.protocol) == (
        other.host_ip,
        other.host_port,
        other.protocol,
    )


def _claim(port: Port, stack: ExitStack) -> Port:
    _check_numbers(port)
    for address in _addresses(port):
        bound = _bind(address, port)
        port = structs.replace(port, host_port=bound.getsockname()[1])
        if port.protocol == "tcp":
            stack.enter_context(bound)
        else:
            # Two UDP sockets on one port would share the datagrams.
            bound.close()
    return port


def _check_numbers(port: Port) -> None:
    if not (0 < port.container_port < 65536 and 0 <= port.host_port < 65536):
        raise InvalidSpec(f"no such port: {port.host_port}:{port.container_port}")


def _addresses(port: Port) -> list[str]:
    if not port.host_ip:
        return ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
    try:
        return [str(ipaddress.ip_address(port.host_ip))]
    except ValueError as err:
        raise InvalidSpec(f"{port.host_ip} is not an IP address") from err


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(address: str, port: Port) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    bound = socket.socket(family, kind)
    try:
        if port.protocol == "tcp":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port.host_port))
    except OSError as err:
        bound.close()
        raise _explain(port, address, err) from err
    return bound


def _explain(port: Port, address: str, err: OSError) -> Exception:
    place = describe_place(structs.replace(port, host_ip=address))
    if err.errno == errno.EADDRINUSE:
        return Conflict(
            f"port {place}/{port.protocol} is in use on the host",
            hint=f"see who has it: ss -lnp 'sport = :{port.host_port}'; or publish another port",
        )
    if err.errno == errno.EACCES:
        return InvalidSpec(
            f"port {place}/{port.protocol} is privileged: this user may not bind it",
            hint=f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port.host_port}"
            ", or publish a port above 1023",
        )
    if err.errno == errno.EADDRNOTAVAIL:
        return InvalidSpec(f"no network interface of the host has the address {address}")
    return InvalidSpec(f"port {place}/{port.protocol} can't be published", detail=str(err))

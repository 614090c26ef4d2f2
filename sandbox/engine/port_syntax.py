"""Published ports: `-p [IP:][HOST:]CONTAINER[/PROTOCOL]`, each port a number or a range."""

from __future__ import annotations

import re
import socket
from typing import Literal

from sandbox.errors import InvalidSpec
from sandbox.spec import Port

_PARTS = re.compile(
    r"(?:(?P<ip>\[[^\]]*\]|[^:\[\]]*):)?(?:(?P<host>[^:]*):)?(?P<container>[^:/]+)(?:/(?P<protocol>[^/]*))?"
)
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HINT = "[IP:][HOST-PORT:]CONTAINER-PORT[/tcp|udp], as in 8080:80 or 127.0.0.1:5353:53/udp"


def parse_ports(text: str) -> tuple[Port, ...]:
    """Return the ports of one `-p` option, one Port for each of a range.

    Raises InvalidSpec.
    """
    match = _PARTS.fullmatch(text)
    if match is None:
        raise InvalidSpec(f"invalid port: {text!r}", hint=_HINT)
    ip, host = match["ip"], match["host"]
    if host is None and ip is not None:
        # Of two parts the first is the host's port: `8080:80`.
        ip, host = None, ip
    protocol = _protocol(match["protocol"], text)
    container_ports = _range(match["container"], text)
    host_ports = _range(host, text) if host else range(0, 0)
    if host_ports and len(host_ports) != len(container_ports):
        raise InvalidSpec(
            f"invalid port: {text!r}",
            detail=f"{len(host_ports)} host ports for {len(container_ports)} container ports",
            hint="ranges must be of one length",
        )
    address = _address(ip, text)
    return tuple(
        Port(container, host_ports[number] if host_ports else 0, address, protocol)
        for number, container in enumerate(container_ports)
    )


def _protocol(text: str | None, whole: str) -> Literal["tcp", "udp"]:
    if text is None or text.lower() == "tcp":
        return "tcp"
    if text.lower() == "udp":
        return "udp"
    raise InvalidSpec(f"invalid port: {whole!r}", detail=f"no protocol {text!r}", hint="tcp or udp")


def _range(text: str, whole: str) -> range:
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise InvalidSpec(
            f"invalid port: {whole!r}", detail=f"{text!r} is not a port or a range of ports"
        )
    return range(first, last + 1)


def _address(text: str | None, whole: str) -> str:
    if not text:
        return ""
    bare = text.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, bare))
    except (OSError, ValueError):
        raise InvalidSpec(
            f"invalid port: {whole!r}", detail=f"{text!r} is not an IP address", hint=_HINT
        ) from None


def spell(port: Port) -> str:
    """Return *port* as `sbx ps` shows it: `0.0.0.0:8080->80/tcp`."""
    ip = port.host_ip or "0.0.0.0"
    ip = f"[{ip}]" if ":" in ip else ip
    return f"{ip}:{port.host_port}->{port.container_port}/{port.protocol}"

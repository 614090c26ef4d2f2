"""The container's /etc/resolv.conf (resolv.conf(5)), from the host's."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from sandbox.network.addresses import FORWARDER
from sandbox.spec import NetworkMode

HOST_FILE = Path("/etc/resolv.conf")
# systemd-resolved(8) keeps here the servers that it asks itself.
UPSTREAM_FILE = Path("/run/systemd/resolve/resolv.conf")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def resolv_conf(mode: NetworkMode, *, forwarder: bool = True) -> str:
    """Return the text for *mode*; *forwarder* says whether the network program has one (pasta)."""
    if mode == "none":
        return ""
    text = read_text(HOST_FILE)
    if mode == "host":
        return text
    return private_resolv_conf(
        text, read_text(UPSTREAM_FILE), forwarder=forwarder, is_local=is_local_address
    )


def private_resolv_conf(
    host: str, upstream: str, *, forwarder: bool, is_local: Callable[[IPAddress], bool]
) -> str:
    """Return the text for a namespace of its own.

    *host* and *upstream* are the texts of the host's file and of systemd-resolved's. Servers that
    the container can reach are kept. If there are none, it asks the forwarder, or, without one,
    the servers upstream.
    """
    servers = reachable(nameservers(host), is_local)
    if not servers and nameservers(host):
        servers = [FORWARDER] if forwarder else reachable(nameservers(upstream), is_local)
    lines = [f"nameserver {server}" for server in servers]
    return "".join(f"{line}\n" for line in lines + other_lines(host))


def needs_forwarder() -> bool:
    """True when the host's own servers are all out of a private container's reach."""
    servers = nameservers(read_text(HOST_FILE))
    return bool(servers) and not reachable(servers, is_local_address)


def nameservers(text: str) -> list[str]:
    """Return the addresses of the nameserver lines, in order."""
    fields = (line.split() for line in text.splitlines())
    return [f[1] for f in fields if len(f) >= 2 and f[0] == "nameserver"]


def other_lines(text: str) -> list[str]:
    """Return the search, domain and options lines."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line.split(" ")[0] in ("search", "domain", "options")]


def reachable(servers: list[str], is_local: Callable[[IPAddress], bool]) -> list[str]:
    """Return those of *servers* that a container with its own namespace can talk to."""
    result = []
    for server in servers:
        try:
            address = ipaddress.ip_address(server)
        except ValueError:
            continue
        # A link-local server is named with the host's interface (fe80::1%eth0), which the
        # container does not have.
        scoped = getattr(address, "scope_id", None) is not None
        # pasta gives it the host's IPv6 addresses: there it would ask itself.
        own = address.version == 6 and is_local(address)
        if not (scoped or own or address.is_loopback or address.is_unspecified):
            result.append(server)
    return result


def is_local_address(address: IPAddress) -> bool:
    """True when the host itself has *address*."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def read_text(path: Path) -> str:
    """Return the file's text, or nothing when it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

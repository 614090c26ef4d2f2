"""pasta(1), from passt: the quickest way out of a network namespace without privileges.

Written for the version of March 2023 (Debian 12) and the later ones: only options that all of them
have. Later ones call --no-map-gw by another name too, and keep this one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandbox.network import addresses
from sandbox.network.process import NETNS_PATH, REPORT_PATH, USERNS_PATH
from sandbox.spec import Port

PROGRAM = "pasta"


def command(program: str, ports: Sequence[Port], *, forward_dns: bool) -> list[str]:
    """Return the command line."""
    argv = [
        program,
        "--foreground",
        "--quiet",
        # Addresses and routes are there when it starts: no DHCP client is needed.
        "--config-net",
        # An IPv4 address of its own: with a copy of the host's (as for IPv6) it would learn that,
        # and neither could connect to the other by it.
        *("--address", addresses.CONTAINER, "--netmask", str(addresses.PREFIX)),
        *("--gateway", addresses.GATEWAY),
        # By default the gateway's address leads to the host's loopback, and every port bound on
        # one side to the other. All that is closed; what is published is opened by name.
        "--no-map-gw",
        *("--tcp-ns", "none", "--udp-ns", "none"),
        *_forwards("--tcp-ports", [p for p in ports if p.protocol == "tcp"]),
        *_forwards("--udp-ports", [p for p in ports if p.protocol == "udp"]),
        # The supervisor ends it: nothing to watch in the directory of the namespace's name.
        "--no-netns-quit",
        # "Write own PID to FILE once initialisation is done": addresses set, ports bound.
        *("--pid", REPORT_PATH),
        *("--userns", USERNS_PATH, "--netns", NETNS_PATH),
    ]
    if forward_dns:
        argv += ["--dns-forward", addresses.FORWARDER]
    return argv


def is_ready(report: bytes) -> bool:
    """True when *report* ends with the pid on a line of its own."""
    return re.search(rb"^\d+\n\Z", report, re.MULTILINE) is not None


def _forwards(option: str, ports: Sequence[Port]) -> list[str]:
    if not ports:
        return [option, "none"]
    return [argument for port in ports for argument in (option, _forward(port))]


def _forward(port: Port) -> str:
    address = f"{port.host_ip}/" if port.host_ip else ""
    return f"{address}{port.host_port}:{port.container_port}"

"""The container's /etc/hosts (hosts(5))."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from sandbox.network.addresses import CONTAINER
from sandbox.network.resolver import read_text
from sandbox.spec import NetworkMode

HOST_FILE = Path("/etc/hosts")

LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
# Where there is no other address, the own name gets this one (as Debian gives it to a machine
# without a permanent address).
ALONE = "127.0.1.1"


def hosts(hostname: str, mode: NetworkMode) -> str:
    """Return the text for a container called *hostname*.

    `host` takes the host's file as it is; `private` the entries that mean the same inside; `none`
    none of them.
    """
    if mode == "host":
        return read_text(HOST_FILE) or LOCALHOST
    text = LOCALHOST
    if hostname:
        text += f"{CONTAINER if mode == 'private' else ALONE}\t{hostname}\n"
    if mode == "private":
        text += portable_entries(read_text(HOST_FILE))
    return text


def portable_entries(text: str) -> str:
    """Return the entries of a hosts file that hold in another network namespace.

    Loopback addresses mean the container itself there: the names that the host gives them
    would lead to the wrong machine.
    """
    return "".join(f"{line}\n" for line in text.splitlines() if _is_portable(line))


def _is_portable(line: str) -> bool:
    fields = line.partition("#")[0].split()
    if len(fields) < 2:
        return False
    try:
        address = ipaddress.ip_address(fields[0])
    except ValueError:
        return False
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
    )

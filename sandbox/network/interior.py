"""What the container's init does inside its new network namespace, before it drops privileges."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

# include/uapi/linux/sockios.h, include/uapi/linux/if.h
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
_IFREQ = "16sH22x"  # struct ifreq: the name, then flags in a union; netdevice(7)


def bring_up_loopback() -> None:
    """Set lo up: a new network namespace has it down. Needs CAP_NET_ADMIN there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack(_IFREQ, b"lo", 0)
        name, flags = struct.unpack(_IFREQ, fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack(_IFREQ, name, flags | IFF_UP))


def allow_unprivileged_use(proc: str = "/proc") -> None:
    """Let every user in the container ping and bind any port: both mean only its own namespace.

    icmp(7), ip(7). *proc* is a writable proc file system. A kernel that refuses is left as it is.
    """
    _write(f"{proc}/sys/net/ipv4/ping_group_range", f"0 {_last_group(proc)}")
    _write(f"{proc}/sys/net/ipv4/ip_unprivileged_port_start", "0")


def _last_group(proc: str) -> int:
    """Return the end of the mapped range that begins with group 0: others are refused (EINVAL)."""
    with contextlib.suppress(OSError), open(f"{proc}/self/gid_map") as file:
        for line in file:
            inside, _, count = (int(field) for field in line.split())
            if inside == 0:
                # The kernel takes no more than (1 << 31) - 1 here.
                return min(count - 1, (1 << 31) - 2)
    return 0


def _write(path: str, value: str) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

"""The supervisor's end of a seccomp listener (seccomp_unotify(2)).

It answers with an errno and never lets a call continue: between the look and the call the other
side could change what its pointers point to.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import select
import struct

from msgspec import Struct

from sandbox.linux.seccomp_syscalls import LATE_CALLS, architecture_name

# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, ip, args
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, val, error, flags

# linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif) …
_IOCTL_RECV = 0xC0502100
_IOCTL_SEND = 0xC0182101
_IOCTL_ID_VALID = 0x40082102


class Notification(Struct, frozen=True):
    """One call that waits for its answer; *pid* is 0 when it is not visible from here."""

    id: int
    pid: int
    syscall: int
    arch: int  # AUDIT_ARCH_*
    args: tuple[int, ...]
    instruction_pointer: int


def wait_readable(listener: int, seconds: float | None = None) -> bool:
    """Wait for a notification. Returns False after *seconds*, or when no one is left to notify."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    events = poller.poll(None if seconds is None else seconds * 1000)
    return any(event & select.POLLIN for _, event in events)


def hung_up(listener: int) -> bool:
    """True when the last process below the filter is gone (Linux 5.9).

    Gone means reaped on the kernels that keep a zombie's filter (6.1 does, 6.18 does not).
    """
    poller = select.poll()
    poller.register(listener, 0)
    return any(event & select.POLLHUP for _, event in poller.poll(0))


def receive(listener: int) -> Notification:
    """Return the next notification; blocks until there is one.

    Raises FileNotFoundError when the caller was killed meanwhile, or none is left.
    """
    buffer = bytearray(_NOTIF.size)  # the kernel wants it zeroed
    fcntl.ioctl(listener, _IOCTL_RECV, buffer)
    identity, pid, _, nr, arch, pointer, *args = _NOTIF.unpack(buffer)
    return Notification(identity, pid, nr, arch, tuple(args), pointer)


def deny(listener: int, notification: Notification, error: int) -> bool:
    """Answer with errno *error*; return False when the caller is gone."""
    if not 0 < error <= 4095:
        raise ValueError(f"{error} is not an errno")
    response = _RESPONSE.pack(notification.id, 0, -error, 0)
    try:
        fcntl.ioctl(listener, _IOCTL_SEND, response)
    except FileNotFoundError:
        return False
    except OSError as err:
        if err.errno == errno.EINPROGRESS:  # answered already
            return False
        raise
    return True


def valid(listener: int, notification: Notification) -> bool:
    """True while the caller waits: what was read from its /proc before is then its own."""
    try:
        fcntl.ioctl(listener, _IOCTL_ID_VALID, struct.pack("=Q", notification.id))
    except FileNotFoundError:
        return False
    return True


def syscall_name(arch: int, nr: int) -> str:
    """Return the name of call *nr* of AUDIT_ARCH_* *arch*, or `syscall NR`."""
    from sandbox.linux.seccomp_library import name_of

    late = {number: name for name, number in LATE_CALLS.items()}
    name = late.get(nr) or name_of(nr, arch)
    return name or f"syscall {nr} ({architecture_name(arch)})"


def notification_sizes() -> tuple[int, int]:
    """Return the kernel's sizes of both structures (SECCOMP_GET_NOTIF_SIZES)."""
    from sandbox.linux.libc import syscall
    from sandbox.linux.seccomp_syscalls import native

    here = native()
    if here is None:
        raise OSError(errno.ENOSYS, "no seccomp filters for this architecture")
    sizes = (ctypes.c_uint16 * 3)()
    syscall(here.seccomp, 3, 0, ctypes.byref(sizes))
    return int(sizes[0]), int(sizes[1])

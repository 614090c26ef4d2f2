"""Capabilities: names, docker's --cap-add and --cap-drop, and giving them up (capabilities(7))."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence

from sandbox.errors import InvalidSpec
from sandbox.linux.libc import libc, raise_errno
from sandbox.linux.syscalls import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_SET_SECUREBITS,
    prctl,
)

# In the order of their numbers (linux/capability.h).
_ORDER = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
    SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"""
NUMBERS = {f"CAP_{name}": number for number, name in enumerate(_ORDER.split())}
ALL = frozenset(NUMBERS)

_DEFAULT = """CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID
    SYS_CHROOT"""
DEFAULT = frozenset(f"CAP_{name}" for name in _DEFAULT.split())  # podman's

PR_SET_KEEPCAPS = 8

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def normalize(name: str) -> str:
    """Return "CAP_NET_RAW" for `net_raw`, `NET_RAW` and `CAP_NET_RAW`. Raises InvalidSpec."""
    full = name.strip().upper()
    if not full.startswith("CAP_"):
        full = f"CAP_{full}"
    if full not in NUMBERS:
        raise InvalidSpec(
            f"no such capability: {name}", hint="capabilities(7) lists them; ALL means every one"
        )
    return full


def resolve(add: Iterable[str], drop: Iterable[str], base: frozenset[str]) -> frozenset[str]:
    """Return *base* changed by --cap-add *add* and --cap-drop *drop*, as docker does.

    `--cap-add ALL`: everything but *drop*. `--cap-drop ALL`: nothing but *add*. Otherwise *drop* is
    taken away first, so a name in both stays. Raises InvalidSpec for unknown names, and for ALL in
    both lists, which means nothing.
    """
    adding, add_all = _names(add)
    dropping, drop_all = _names(drop)
    if add_all and drop_all:
        raise InvalidSpec("--cap-add ALL and --cap-drop ALL contradict each other")
    if add_all:
        return ALL - dropping
    if drop_all:
        return adding
    return (base - dropping) | adding


def _names(given: Iterable[str]) -> tuple[frozenset[str], bool]:
    names = [name for one in given for name in one.split(",")]
    everything = ("ALL", "CAP_ALL")
    return (
        frozenset(normalize(name) for name in names if name.strip().upper() not in everything),
        any(name.strip().upper() in everything for name in names),
    )


def mask(capabilities: Iterable[str]) -> int:
    """Return the bit set of *capabilities*."""
    return sum(1 << NUMBERS[name] for name in set(capabilities))


def names_of(bits: int) -> frozenset[str]:
    """Return the names of the bits that are known."""
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)


def capget() -> tuple[int, int, int]:
    """Return the calling thread's effective, permitted and inheritable sets (capget(2))."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    if libc.capget(ctypes.byref(header), data) < 0:
        raise_errno("capget")
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's sets (capset(2))."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for half, shift in zip(data, (0, 32), strict=True):
        half.effective = effective >> shift & 0xFFFFFFFF
        half.permitted = permitted >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF
    if libc.capset(ctypes.byref(header), data) < 0:
        raise_errno("capset")


def bounding() -> int:
    """Return the calling thread's bounding set."""
    return sum(1 << number for number in range(last() + 1) if prctl(PR_CAPBSET_READ, number))


def last() -> int:
    """Return the highest capability that the running kernel has."""
    number = len(NUMBERS) - 1
    while number > 0 and not _exists(number):
        number -= 1
    while _exists(number + 1):
        number += 1
    return number


def _exists(number: int) -> bool:
    try:
        prctl(PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def drop_bounding(keep: int) -> None:
    """Take everything but *keep* out of the bounding set, also what has no name here.

    Needs CAP_SETPCAP, so it comes before any change of ids.
    """
    for number in range(last() + 1):
        if not keep >> number & 1 and prctl(PR_CAPBSET_READ, number):
            prctl(PR_CAPBSET_DROP, number)


def apply(capabilities: frozenset[str], *, uid_is_root: bool) -> None:
    """Give up all but *capabilities*, for the calling thread and what it executes.

    For root the sets are what the container's programs get. Another user's programs get none
    (docker and podman do the same: no ambient capabilities), though a set-user-ID program may
    still raise what the bounding set holds, unless no_new_privs is set. The inheritable set stays
    empty (CVE-2022-24769). Call it with CAP_SETPCAP, before no_new_privs and seccomp.
    """
    keep = mask(capabilities)
    drop_bounding(keep)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _, permitted, _ = capget()
    granted = keep & permitted if uid_is_root else 0
    capset(granted, granted, 0)


def drop_privileges(
    uid: int, gid: int, groups: Sequence[int] | None, capabilities: frozenset[str]
) -> None:
    """Become *uid*:*gid* with *groups* and *capabilities*, for good.

    *groups* None: leave them. Setting ids needs the
    capabilities that are given up here, and a change from root clears all sets on the way
    (capabilities(7), "Effect of user ID changes"); hence the order: bounding set, groups, gid,
    uid, then what is left. The securebits are reset first, because they may switch those effects
    off and are inherited.
    """
    keep = mask(capabilities)
    prctl(PR_SET_SECUREBITS, 0)
    prctl(PR_SET_KEEPCAPS, 0)
    drop_bounding(keep)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    if groups is not None:
        _set_groups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _, permitted, _ = capget()
    granted = keep & permitted if uid == 0 else 0
    capset(granted, granted, 0)


def _set_groups(groups: Sequence[int]) -> None:
    """setgroups(2), unless the namespace forbids it to everyone (one mapped id and no newgidmap).

    The groups that the user has on the host then stay, as with every tool in that situation.
    """
    try:
        os.setgroups(groups)
    except PermissionError:
        if not _setgroups_denied():
            raise


def _setgroups_denied() -> bool:
    try:
        with open("/proc/self/setgroups", "rb") as file:
            return file.read().strip() == b"deny"
    except OSError:
        return False

"""Names of architectures and system calls, where libseccomp is too old or not wanted."""

from __future__ import annotations

import os

from msgspec import Struct

LIBRARY = "libseccomp.so.2"

# linux/audit.h. The numbers are also libseccomp's tokens.
AUDIT_ARCHITECTURES = {
    "x86": 0x40000003,
    "x86_64": 0xC000003E,
    "arm": 0x40000028,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
    "ppc64le": 0xC0000015,
    "s390": 0x00000016,
    "s390x": 0x80000016,
    "loongarch64": 0xC0000102,
}


class Native(Struct, frozen=True):
    """What belongs to the value of uname(2)'s `machine`."""

    name: str  # libseccomp's name
    go_name: str  # in `includes.arches`
    seccomp: int  # the number of seccomp(2)
    others: tuple[str, ...] = ()  # what the same kernel may run besides, without x32


_NATIVE = {
    "x86_64": Native("x86_64", "amd64", 317, ("x86",)),
    "aarch64": Native("aarch64", "arm64", 277, ("arm",)),
    "riscv64": Native("riscv64", "riscv64", 277),
    "ppc64le": Native("ppc64le", "ppc64le", 358),
    "s390x": Native("s390x", "s390x", 348, ("s390",)),
    "loongarch64": Native("loongarch64", "loong64", 277),
}

# Calls of 5.16 and later have one number everywhere; a libseccomp older than the kernel doesn't
# know them (scripts/syscall.tbl of the kernel).
LATE_CALLS = {
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}


def native() -> Native | None:
    """Return this machine's architecture, or None when sbx does not know it."""
    return _NATIVE.get(os.uname().machine)


def architecture_name(token: int) -> str:
    """Return libseccomp's name of an AUDIT_ARCH_* value."""
    names = (name for name, value in AUDIT_ARCHITECTURES.items() if value == token)
    return next(names, f"architecture {token:#x}")

"""What narrows a container's processes: seccomp and Landlock."""

from __future__ import annotations

from sandbox.doctor.check import Check, Host, read_first_line
from sandbox.errors import Unavailable
from sandbox.linux import landlock, seccomp_library

_ACTIONS = "/proc/sys/kernel/seccomp/actions_avail"


def check_seccomp(host: Host) -> Check:
    """Ask the kernel which actions a filter may take (seccomp(2))."""
    actions = (read_first_line(_ACTIONS) or "").split()
    if "errno" not in actions:
        return Check(
            "seccomp",
            "fail",
            "this kernel has no filters",
            "system calls of a container are filtered",
            "use a kernel with CONFIG_SECCOMP_FILTER=y",
        )
    if "user_notif" not in actions:
        return Check(
            "seccomp",
            "warn",
            "filters, without user notification",
            "--explain can't say what was denied",
            "use Linux 5.0 or later",
        )
    return Check("seccomp", "ok", "filters and user notification")


def check_libseccomp(host: Host) -> Check:
    """Load the library that compiles filters."""
    try:
        seccomp_library.library()
    except Unavailable as err:
        matters = "it compiles the filters: without it only cached ones can be used"
        return Check(
            "libseccomp", "fail", err.message, matters, host.distribution.install("libseccomp2")
        )
    return Check("libseccomp", "ok", "loads")


def check_landlock(host: Host) -> Check:
    """Ask for Landlock's ABI version."""
    version = landlock.abi()
    if version:
        return Check("Landlock", "ok", f"ABI {version}")
    return Check(
        "Landlock",
        "warn",
        "not in this kernel, or switched off",
        "it is a second wall around a container's files; the first one stands without it",
        "add landlock to the kernel parameter lsm= (Linux 5.19 or later)",
    )

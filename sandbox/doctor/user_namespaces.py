"""User namespaces: everything rests on them (user_namespaces(7))."""

from __future__ import annotations

import os
import shlex
import sys
from importlib import resources

from sandbox.doctor.check import Check, Host, read_first_line
from sandbox.doctor.trial import attempt, enter_namespaces
from sandbox.linux.syscalls import MS_NODEV, MS_NOSUID, mount

NAME = "user namespaces"
_MATTERS = "containers are made in a user namespace: without one nothing runs"
_SWITCH = "/proc/sys/kernel/unprivileged_userns_clone"  # Debian's and Arch's kernels
_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"  # Ubuntu 23.10 and later
_MOST = "/proc/sys/user/max_user_namespaces"


def check(host: Host) -> Check:
    """Make a namespace, twice nested as containers need it, and mount something in it."""
    worked, reason = attempt(_two_levels)
    if worked:
        return Check(NAME, "ok", f"nested ones with mounts work; at most {read_first_line(_MOST)}")
    found, mend = _explain(reason)
    return Check(NAME, "fail", found, _MATTERS, mend)


def _two_levels() -> None:
    enter_namespaces()
    # Ubuntu's AppArmor lets the namespace be made and takes its capabilities away: mounting shows.
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)
    enter_namespaces()
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)


def _explain(reason: str) -> tuple[str, str]:
    """Return (what is wrong, what mends it), looking at the switches there are."""
    if read_first_line(_SWITCH) == "0":
        return "switched off (kernel.unprivileged_userns_clone=0)", _sysctl(
            "kernel.unprivileged_userns_clone=1"
        )
    if read_first_line(_MOST) == "0":
        return "none are allowed (user.max_user_namespaces=0)", _sysctl(
            "user.max_user_namespaces=65536"
        )
    if read_first_line(_APPARMOR) == "1":
        return f"AppArmor restricts them ({reason})", _apparmor()
    return f"making one failed: {reason}", _no_switch()


def _sysctl(setting: str) -> str:
    return (
        f"echo {setting} | sudo tee /etc/sysctl.d/90-userns.conf\n"
        "sudo sysctl -p /etc/sysctl.d/90-userns.conf"
    )


def _apparmor() -> str:
    """The profile that comes with sbx lifts the restriction for sbx alone."""
    profile = resources.files("profiles") / "apparmor" / "sbx"
    return apparmor_commands(str(profile), _own_command())


def apparmor_commands(profile: str, command: str) -> str:
    """Return what installs *profile* for the program *command*."""
    filled_in = shlex.join(["sed", f"s|@SBX@|{command}|", profile])
    return (
        f"{filled_in} | sudo tee /etc/apparmor.d/sbx >/dev/null\n"
        "sudo apparmor_parser -r /etc/apparmor.d/sbx"
    )


def _own_command() -> str:
    """Return the path of `sbx`, by which AppArmor knows it."""
    given = os.path.realpath(sys.argv[0])
    if os.path.basename(given) == "sbx":
        return given
    return os.path.join(os.path.dirname(sys.executable), "sbx")


def _no_switch() -> str:
    status = open("/proc/self/status").read()  # noqa: SIM115
    if "Seccomp:\t2" in status:
        return (
            "this shell runs below a seccomp filter (a container?):"
            " let that one allow unshare and mount"
        )
    return "use a kernel with CONFIG_USER_NS=y"

"""The two overlay drivers: FUSE and the kernel's own (overlayfs)."""

from __future__ import annotations

import os
import re

from sandbox.doctor.check import Check, Host
from sandbox.doctor.trial import attempt, enter_namespaces
from sandbox.linux.syscalls import MS_NODEV, MS_NOSUID, mount

_PYFUSE3 = (3, 4)


def check_fuse(host: Host) -> Check:
    """Open /dev/fuse and mount with it."""
    name = "FUSE"
    matters = "the overlay of most profiles is served through it"
    if not os.path.exists("/dev/fuse"):
        return Check(name, "fail", "no /dev/fuse", matters, "sudo modprobe fuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        rule = 'KERNEL=="fuse", MODE="0666"'
        mend = f"echo '{rule}' | sudo tee /etc/udev/rules.d/90-fuse.rules\nsudo chmod 666 /dev/fuse"
        return Check(name, "fail", "/dev/fuse may not be opened by you", matters, mend)
    worked, reason = attempt(_mount_fuse)
    if not worked:
        return Check(name, "fail", f"mounting failed: {reason}", matters, "use Linux 4.18 or later")
    return Check(name, "ok", "/dev/fuse opens and mounts in a user namespace")


def _mount_fuse() -> None:
    enter_namespaces()
    # Opened in here: the kernel wants descriptor and mount to be of one user namespace.
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    mount("sbx-doctor", "/tmp", "fuse", MS_NOSUID | MS_NODEV, data)


def check_kernel_overlay(host: Host) -> Check:
    """Mount an overlayfs on a tmpfs."""
    name = "kernel overlay"
    worked, reason = attempt(_mount_overlay)
    if worked:
        return Check(name, "ok", "mounts in a user namespace")
    matters = "`--overlay kernel` and the profile dev need it (Linux 5.11); FUSE serves instead"
    return Check(name, "warn", f"mounting failed: {reason}", matters, "sudo modprobe overlay")


def _mount_overlay() -> None:
    enter_namespaces()
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV)
    for directory in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{directory}")
    data = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr"
    mount("overlay", "/tmp/merged", "overlay", MS_NOSUID | MS_NODEV, data)


def check_pyfuse3(host: Host) -> Check:
    """Look for the Python binding that the FUSE overlay is written with."""
    import sys
    from importlib import metadata

    name = "pyfuse3"
    matters = "the FUSE overlay is written with it"
    mend = f"{sys.executable} -m pip install 'pyfuse3>={'.'.join(map(str, _PYFUSE3))}'"
    try:
        version = metadata.version("pyfuse3")
    except metadata.PackageNotFoundError:
        return Check(name, "fail", "not installed for this Python", matters, mend)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _PYFUSE3:
        return Check(name, "fail", f"version {version} is too old", matters, mend)
    return Check(name, "ok", f"version {version}")

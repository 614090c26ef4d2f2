"""The directories sbx keeps things in, and the Python it runs on."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from sandbox.doctor.check import Check, Host

_PYTHON = (3, 11)
_SPACE = 1 << 30


def check_runtime_directory(host: Host) -> Check:
    """Look at XDG_RUNTIME_DIR: sockets and locks go there."""
    name = "runtime directory"
    value = host.environ.get("XDG_RUNTIME_DIR", "")
    if not value.startswith("/"):
        return Check(
            name,
            "warn",
            f"XDG_RUNTIME_DIR is not set: {host.paths.runtime} is used",
            "it outlives your login there, and a cleaner of /tmp may take it away",
            f"sudo loginctl enable-linger {host.user}\nexport XDG_RUNTIME_DIR=/run/user/{host.uid}",
        )
    try:
        status = os.stat(value)
    except OSError as err:
        return Check(
            name,
            "fail",
            f"XDG_RUNTIME_DIR={value}: {err.strerror}",
            "sockets and locks go there",
            "unset XDG_RUNTIME_DIR",
        )
    if status.st_uid != host.uid or not stat.S_ISDIR(status.st_mode):
        return Check(
            name,
            "fail",
            f"{value} is not a directory of yours",
            "sockets and locks go there; after su and sudo the variable is the other user's",
            f"export XDG_RUNTIME_DIR=/run/user/{host.uid}",
        )
    return Check(name, "ok", value)


def check_lingering(host: Host) -> Check:
    """Look whether systemd ends the user's processes at logout (loginctl(1))."""
    name = "after logout"
    if not os.path.isdir("/run/systemd/system"):
        return Check(name, "ok", "no systemd: nothing ends detached containers")
    if os.path.exists(f"/var/lib/systemd/linger/{host.user}"):
        return Check(name, "ok", "your processes linger")
    return Check(
        name,
        "warn",
        "systemd ends your session's processes",
        "detached containers end when you log out",
        f"sudo loginctl enable-linger {host.user}",
    )


def check_store(host: Host) -> Check:
    """Look at the file system that images and containers are kept on."""
    name = "store"
    place = _existing(host.paths.data)
    if not os.access(place, os.W_OK):
        return Check(
            name,
            "fail",
            f"{place} is not writable",
            "images and containers are kept below it",
            "export XDG_DATA_HOME=DIRECTORY   # one that you can write",
        )
    kind = file_system_of(place)
    if reason := _refuses_attributes(place):
        return Check(
            name,
            "warn",
            f"{place} ({kind}): no user.* extended attributes ({reason})",
            "whiteouts, opaque directories and owners are kept in them",
            "export XDG_DATA_HOME=DIRECTORY   # on ext4, xfs or btrfs",
        )
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    found = f"{place} ({kind}), {free / (1 << 30):.1f} GiB free"
    if free < _SPACE:
        return Check(name, "warn", found, "images need room", "sbx system prune")
    return Check(name, "ok", found)


def _existing(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _refuses_attributes(directory: Path) -> str | None:
    """Try on a file without a name, so that nothing is left (open(2), O_TMPFILE)."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as err:
        # A file system without O_TMPFILE, as NFS: not known, then.
        return None if err.errno in (errno.EOPNOTSUPP, errno.EISDIR) else err.strerror
    try:
        os.setxattr(descriptor, "user.sbx", b"1")
        return None
    except OSError as err:
        return err.strerror
    finally:
        os.close(descriptor)


def file_system_of(path: Path) -> str:
    """Return the type of the file system at *path* as /proc/self/mountinfo has it."""
    best, kind = "", "unknown"
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4]
            below = point == "/" or wanted == point or wanted.startswith(point + "/")
            if below and len(point) >= len(best):
                best, kind = point, after.split(" ")[0]
    return kind


def check_python(host: Host) -> Check:
    """Look at the version of the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= _PYTHON:
        return Check("Python", "ok", f"{version} ({sys.executable})")
    return Check(
        "Python",
        "fail",
        f"{version} is too old",
        "sbx is written for 3.11 and later",
        host.distribution.install("python3.11"),
    )

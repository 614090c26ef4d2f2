"""Removing from the runtime directory what killed processes left there: sockets and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from sandbox.linux.processes import ProcessRef

_LOCK = ".lock"


def sweep(runtime: Path, running: frozenset[str]) -> None:
    """Remove the files of dead launchers, spares, supervisors and storage members.

    *running* are the names of sockets that are known to be in use, or about to be. Whoever comes
    from the launcher's own start at the same time makes its files anew.
    """
    try:
        if os.lstat(runtime).st_uid != os.getuid():
            return  # somebody else's, who was first
        entries = sorted(os.listdir(runtime))
    except FileNotFoundError:
        return
    for entry in entries:
        path = runtime / entry
        if entry.startswith("launcher-") and entry.endswith(_LOCK):
            _sweep_launcher(path)
        elif entry.startswith(("c-", "spare-")) and entry not in running and _is_dead(path):
            path.unlink(missing_ok=True)
    _sweep_members(runtime / "userns")


def _sweep_launcher(lock: Path) -> None:
    """The lock is held for as long as its launcher lives."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.with_name(lock.name.removesuffix(_LOCK)).unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _is_dead(path: Path) -> bool:
    """True for a socket that nobody listens on.

    Asked for a connection of another type the kernel refuses before the listener hears of it, and
    in another way when there is none (unix(7): EPROTOTYPE, ECONNREFUSED).
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.connect(os.fspath(path))
    except OSError as err:
        return err.errno == errno.ECONNREFUSED
    return False


def _sweep_members(registry: Path) -> None:
    try:
        entries = os.listdir(registry)
    except OSError:
        return
    for entry in entries:
        if not entry.lstrip(".").isdecimal():
            continue
        try:
            pid, start, boot = (registry / entry).read_text().split()
            alive = ProcessRef(int(pid), int(start), boot).alive()
        except ValueError:
            alive = os.path.exists(f"/proc/{entry.lstrip('.')}")  # it is just being written
        except OSError:
            continue
        if not alive:
            (registry / entry).unlink(missing_ok=True)

"""A real ``systemd --user`` in the test machine, as a login would start one."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.linux.dbus import Connection

PROGRAM = shutil.which("systemd") or "/lib/systemd/systemd"
_SECONDS = 60.0

# systemd wants /run/systemd/system (sd_booted(3)) and a cgroup that it may manage. Two user
# namespaces: as root of the first the mounts, in the second the user's own id again.
_START = """
set -e
echo $$ >"$SERVICE/cgroup.procs"
exec unshare --map-root-user --mount sh -ec '
    mount --bind "$XDG_RUNTIME_DIR" /mnt
    mount -t tmpfs none /run
    mkdir -p "$XDG_RUNTIME_DIR" /run/systemd/system
    mount --move /mnt "$XDG_RUNTIME_DIR"
    exec unshare --user --map-user="$ID" --map-group="$ID" "$PROGRAM" --user --unit=basic.target
'
"""


@contextlib.contextmanager
def user_systemd(delegated: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The manager's cgroup (below *delegated*) and the environment to reach it with."""
    service = delegated / f"user@{os.getuid()}.service"
    service.mkdir()
    # Below the machine's own runtime directory: a socket's path has to be short.
    runtime = Path(tempfile.mkdtemp(prefix="sd", dir=os.environ["XDG_RUNTIME_DIR"]))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(runtime),
        "XDG_RUNTIME_DIR": str(runtime),
        "SERVICE": str(service),
        "ID": str(os.getuid()),
        "PROGRAM": PROGRAM,
    }
    log = runtime / "log"
    with log.open("wb") as file:
        manager = subprocess.Popen(["sh", "-c", _START], env=environ, stdout=file, stderr=file)
    try:
        _wait_for(runtime / "systemd/private", manager, log)
        _wait_answers(runtime / "systemd/private")
        yield service, {"XDG_RUNTIME_DIR": str(runtime)}
    finally:
        (service / "cgroup.kill").write_text("1")
        manager.wait()
        _remove_cgroups(service)
        shutil.rmtree(runtime, ignore_errors=True)


def _wait_for(path: Path, manager: subprocess.Popen[bytes], log: Path) -> None:
    pidfd = os.pidfd_open(manager.pid)
    deadline = time.monotonic() + _SECONDS
    try:
        while not path.is_socket():
            # Nothing says that the socket is there; look ten times a second, unless it ended.
            ended = select.select([pidfd], [], [], 0.1)[0]
            assert not ended, f"systemd ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"no socket:\n{log.read_text()}"
    finally:
        os.close(pidfd)


def _wait_answers(path: Path) -> None:
    """sbx gives systemd five seconds, and a connection that comes while it still begins may wait
    for ever: ask again until there is an answer."""
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            connection = Connection.open(str(path), 5)
            with contextlib.closing(connection):
                connection.call(*manager, "org.freedesktop.systemd1.Manager", "Subscribe")
                return
        except OSError:
            assert time.monotonic() < deadline, "systemd does not answer"


def _remove_cgroups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)

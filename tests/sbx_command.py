"""The real ``sbx`` command for tests, in state directories of its own.

At the end all its containers and its launcher are ended, and what is left then (a process, a
mount, a cgroup) fails the test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.marked_processes import Mark, Process

ROOT = Path(__file__).resolve().parents[1]
# The session's bus is for systemd's user manager (cgroups), so it stays although XDG_RUNTIME_DIR
# is replaced.
_PASSED_ON = ("PATH", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "PYTHONPATH")
# The test machine is emulated, tens of times slower than this one.
PATIENCE = 10 if os.environ.get("SBX_VM") == "1" else 1


def sbx_program() -> list[str]:
    """The installed command beside this Python; a development checkout has none."""
    installed = Path(sys.executable).with_name("sbx")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-m", "sandbox.client"]


@dataclass(slots=True)
class Sbx:
    """Call it with the command's arguments; *directory* holds all its state."""

    directory: Path
    environ: dict[str, str]
    mark: Mark = field(default_factory=Mark)
    program: list[str] = field(default_factory=sbx_program)
    grace: float = 10  # seconds for processes to end after the last container was removed

    @classmethod
    @contextlib.contextmanager
    def in_private_directories(cls, cache: Path, **fields: Any) -> Iterator[Sbx]:
        # Not pytest's tmp_path: a socket's path may have 108 bytes (unix(7)).
        directory = Path(tempfile.mkdtemp(prefix="sbx-", dir="/tmp"))
        for name in ("data", "run", "config", "home"):
            (directory / name).mkdir(mode=0o700)
        cgroups = _own_cgroups()
        sbx = cls(directory, _environ(directory, cache), **fields)
        try:
            yield sbx
        except BaseException:
            sbx.end_all()
            sbx.mark.kill()
            raise
        else:
            sbx.end_all()
            sbx.assert_nothing_left(cgroups)
        finally:
            sbx.mark.kill()
            remove_tree(directory)

    def __call__(
        self,
        *arguments: str | os.PathLike[str],
        input: str | None = None,
        env: Mapping[str, str] = {},
        cwd: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``sbx ARGUMENTS`` to its end. *env* is added; *check* fails the test on failure."""
        with self.mark.inherited():
            result = subprocess.run(
                [*self.program, *(os.fspath(argument) for argument in arguments)],
                env=self.environ | dict(env),
                cwd=cwd,
                timeout=timeout * PATIENCE,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
            )
        if check:
            assert result.returncode == 0, f"{arguments}: {result.returncode}\n{result.stderr}"
        return result

    def popen(
        self, *arguments: str | os.PathLike[str], env: Mapping[str, str] = {}, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start ``sbx ARGUMENTS``; *options* are Popen's. The test waits for it."""
        with self.mark.inherited():
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [*self.program, *(os.fspath(argument) for argument in arguments)],
                env=self.environ | dict(env),
                **options,
            )
        return process

    def containers(self) -> list[str]:
        """The ids of all containers, running or not."""
        return self("ps", "--all", "--quiet", "--no-trunc", check=True).stdout.split()

    def end_all(self) -> None:
        """Remove all containers, then end the launchers."""
        if any((self.directory / "data").iterdir()) and (ids := self.containers()):
            self("rm", "--force", *ids, check=True)
        self.end_launchers()

    def launcher_pids(self) -> list[int]:
        """The processes that listen on the launchers' sockets."""
        sockets = (self.directory / "run/sbx").glob("launcher*.sock")
        return [pid for path in sockets if (pid := _listener(path)) is not None]

    def end_launchers(self) -> None:
        """End those that listen, and those that a client has just started."""
        starting = [p.pid for p in self.mark.processes() if "sandbox.launcher" in p.command]
        for pid in {*self.launcher_pids(), *starting}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def wait_nothing_left(self, seconds: float) -> list[Process]:
        """Wait until no process is left; returns those left when the time is over."""
        deadline = time.monotonic() + seconds * PATIENCE
        # A launcher that just starts has no socket yet, by which to find and end it.
        while (left := self.mark.wait_gone(0.3)) and time.monotonic() < deadline:
            self.end_launchers()
        return left

    def assert_nothing_left(self, cgroups_before: frozenset[Path] = frozenset()) -> None:
        """Fail on a process, mount or cgroup that is there still."""
        processes = self.wait_nothing_left(self.grace)
        assert not processes, f"processes left behind: {processes}"
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        assert not [line for line in mounts if str(self.directory) in line], "mounts left behind"
        cgroups = _own_cgroups() - cgroups_before
        assert not cgroups, f"cgroups left behind: {sorted(map(str, cgroups))}"


def _listener(path: Path) -> int | None:
    """The process that listens on the socket *path*, if any (SO_PEERCRED, unix(7))."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _environ(directory: Path, cache: Path) -> dict[str, str]:
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environ.setdefault("PYTHONPATH", str(ROOT))  # for a checkout that is not installed
    if bus := _session_bus():
        environ["DBUS_SESSION_BUS_ADDRESS"] = bus
    return environ | {
        "HOME": str(directory / "home"),
        "XDG_DATA_HOME": str(directory / "data"),
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_CACHE_HOME": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _session_bus() -> str | None:
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    path = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent", "bus")
    return f"unix:path={path}" if path.is_socket() else None


def _own_cgroups() -> frozenset[Path]:
    """The cgroups beside and below ours, if this user may make some there (cgroup v2)."""
    own = Path("/proc/self/cgroup").read_text().splitlines()[-1].removeprefix("0::")
    parent = Path("/sys/fs/cgroup" + own).parent
    if not own.startswith("/") or not os.access(parent / "cgroup.procs", os.W_OK):
        return frozenset()
    return frozenset(Path(path) for path, _, _ in os.walk(parent))


def remove_tree(directory: Path) -> None:
    """Remove *directory*, with files of subordinate ids and directories closed to ourselves."""
    try:
        shutil.rmtree(directory)
    except OSError:
        # As root of a user namespace with all our ids; without subordinate ids, with just one.
        for ids in (["--map-auto"], []):
            command = ["unshare", "--map-root-user", *ids, "rm", "-rf", "--", str(directory)]
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                return
        raise

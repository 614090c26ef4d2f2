"""A cgroup (v2) as a directory: made, watched, emptied and removed.

Source: Documentation/admin-guide/cgroup-v2.rst, cgroups(7). Where one may be made is the business
of `cgroups_delegation`, what is written into it that of `cgroups_limits`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Collection, Iterator

from msgspec import Struct

PREFIX = "sbx-"
_REMOVE_SECONDS = 10.0


class Stats(Struct, frozen=True):
    """What a cgroup uses. None: its controller is not enabled here or the kernel is too old."""

    memory_current: int | None  # bytes
    memory_peak: int | None  # bytes, Linux 5.19
    swap_current: int | None  # bytes
    pids_current: int | None
    cpu_usec: int | None
    cpu_user_usec: int | None
    cpu_system_usec: int | None
    cpu_throttled_usec: int | None
    io_read: int | None  # bytes from block devices
    io_written: int | None
    oom_kills: int


class Cgroup:
    """A directory of the cgroup2 file system, by its absolute path.

    While the object lives it holds a shared lock on the directory, by which `reconcile` in another
    process knows that the empty cgroup is about to be used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r})"

    @classmethod
    def create(cls, parent: str, name: str) -> Cgroup:
        """Make the cgroup *name* below *parent*. Raises OSError (EEXIST, EACCES …)."""
        path = os.path.join(parent, name)
        while True:
            os.mkdir(path, 0o755)
            cgroup = cls(path)
            if cgroup._hold():
                return cgroup

    def _hold(self) -> bool:
        """Take the shared lock; False when `reconcile` removed the directory just before."""
        try:
            lock = self.open()
        except FileNotFoundError:
            return False
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not os.path.exists(self.path):
            os.close(lock)
            return False
        self._lock = lock
        return True

    def open(self) -> int:
        """Return a directory fd: what clone3(2) takes for CLONE_INTO_CGROUP."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give up the lock. The cgroup stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def add(self, pid: int) -> None:
        """Move process *pid* (0: the caller) here.

        The writer needs the right to write cgroup.procs here and in the closest common ancestor of
        both cgroups. Raises PermissionError without it; `cgroups.join` knows a way then.
        """
        self.write("cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """Return the processes in this cgroup itself (0: one of another pid namespace)."""
        return [int(line) for line in self.read("cgroup.procs").split()]

    def kill(self) -> None:
        """SIGKILL everything in here and below, forks under way included."""
        try:
            self.write("cgroup.kill", "1")
        except FileNotFoundError:
            if os.path.exists(self.path):
                self._kill_each()

    def _kill_each(self) -> None:
        """Before Linux 5.14: freeze, so that nothing forks meanwhile, then kill one by one."""
        self.freeze(True)
        for directory in _subtree(self.path):
            for pid in Cgroup(directory).pids():
                if pid:
                    _kill(pid)
        self.freeze(False)

    def freeze(self, frozen: bool, seconds: float = 5.0) -> bool:
        """Stop all processes in here (or let them go on); False when that takes too long."""
        self.write("cgroup.freeze", "1" if frozen else "0")
        return self._wait_event("frozen", int(frozen), seconds)

    def populated(self) -> bool:
        """True when a living process is in here or below."""
        try:
            return self._counters("cgroup.events").get("populated", 0) != 0
        except FileNotFoundError:
            return False

    def wait_empty(self, seconds: float = _REMOVE_SECONDS) -> bool:
        """Wait until no living process is left; False when *seconds* went by first."""
        return self._wait_event("populated", 0, seconds)

    def _wait_event(self, key: str, value: int, seconds: float) -> bool:
        """Wait until cgroup.events says so: the file raises POLLPRI when it changes."""
        deadline = time.monotonic() + seconds
        try:
            events = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            # Read first: a read is what re-arms the notification, so no change is missed.
            while _key_values(_pread(events)).get(key, value) != value:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                poller.poll(remaining * 1000)
            return True
        finally:
            os.close(events)

    def oom_kills(self) -> int:
        """Return how many processes of this subtree the OOM killer ended (memory.events)."""
        try:
            return self._counters("memory.events").get("oom_kill", 0)
        except OSError:
            return 0

    def stats(self) -> Stats:
        """Return the usage now. Raises FileNotFoundError when the cgroup is gone."""
        if not os.path.isdir(self.path):
            raise FileNotFoundError(errno.ENOENT, "no such cgroup", self.path)
        cpu = self._counters_or_nothing("cpu.stat")
        read, written = self._io_bytes()
        return Stats(
            memory_current=self._number("memory.current"),
            memory_peak=self._number("memory.peak"),
            swap_current=self._number("memory.swap.current"),
            pids_current=self._number("pids.current"),
            cpu_usec=cpu.get("usage_usec"),
            cpu_user_usec=cpu.get("user_usec"),
            cpu_system_usec=cpu.get("system_usec"),
            cpu_throttled_usec=cpu.get("throttled_usec"),
            io_read=read,
            io_written=written,
            oom_kills=self.oom_kills(),
        )

    def remove(self, seconds: float = _REMOVE_SECONDS) -> bool:
        """Kill what is in here, wait for its end, remove the directories. Gone already is fine.

        False when something would not die in time (a process in uninterruptible sleep).
        """
        self.close()
        try:
            if self.populated():
                self.kill()
                if not self.wait_empty(seconds):
                    return False
            for directory in _subtree(self.path):
                _rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as err:
            if err.errno != errno.EBUSY:
                raise
        return not os.path.exists(self.path)

    def controllers(self) -> frozenset[str]:
        """Return the controllers that have their files here."""
        return frozenset(self.read("cgroup.controllers").split())

    def read(self, name: str) -> str:
        with open(f"{self.path}/{name}") as file:
            return file.read()

    def write(self, name: str, value: str) -> None:
        """Write one of the cgroup's files in a single write(2), as kernfs wants it."""
        descriptor = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        except OSError as err:
            raise OSError(err.errno, err.strerror, f"{self.path}/{name}") from None
        finally:
            os.close(descriptor)

    def _counters(self, name: str) -> dict[str, int]:
        return _key_values(self.read(name))

    def _counters_or_nothing(self, name: str) -> dict[str, int]:
        try:
            return self._counters(name)
        except OSError:
            return {}

    def _number(self, name: str) -> int | None:
        try:
            return int(self.read(name))
        except (OSError, ValueError):
            return None

    def _io_bytes(self) -> tuple[int | None, int | None]:
        """Sum io.stat over the devices: lines of "MAJOR:MINOR rbytes=… wbytes=… …"."""
        try:
            lines = self.read("io.stat").splitlines()
        except OSError:
            return None, None
        totals = {"rbytes": 0, "wbytes": 0}
        for field in (field for line in lines for field in line.split()[1:]):
            key, _, value = field.partition("=")
            if key in totals:
                totals[key] += int(value)
        return totals["rbytes"], totals["wbytes"]


def name_of(container_id: str) -> str:
    """Return the name of a container's cgroup."""
    return PREFIX + container_id[:12]


def reconcile(parent: str, live_ids: Collection[str] = ()) -> list[str]:
    """Remove the empty cgroups that containers which are no more left below *parent*.

    A populated one is left alone: it may belong to another store of this user. So is one that a
    living supervisor holds, or one of *live_ids*. Returns the paths removed.
    """
    live = {name_of(container_id) for container_id in live_ids}
    removed = []
    for entry in _entries(parent):
        path = f"{parent}/{entry}"
        if entry.startswith(PREFIX) and entry not in live and remove_if_abandoned(path):
            removed.append(path)
    return removed


def remove_if_abandoned(path: str) -> bool:
    """Remove an empty cgroup that nobody holds; False when it is in use or not ours."""
    cgroup = Cgroup(path)
    try:
        lock = cgroup.open()
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if cgroup.populated():
            return False
        for directory in _subtree(path):
            _rmdir(directory)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)


def _subtree(path: str) -> Iterator[str]:
    """Yield the cgroups below *path* and *path* itself, the deepest first."""
    for directory, _, _ in os.walk(path, topdown=False):
        yield directory


def _entries(path: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _pread(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 4096, 0).decode()
    except OSError as err:
        if err.errno == errno.ENODEV:  # the cgroup was removed meanwhile
            return ""
        raise


def _key_values(content: str) -> dict[str, int]:
    """Parse a flat keyed file: "KEY VALUE" lines."""
    pairs = (line.split() for line in content.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

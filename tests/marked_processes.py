"""Find processes by a mark that they inherit and can't lose by accident.

A process that left its parent, cleared its environment, entered namespaces and made itself
undumpable still has the resource limits it was started with, and /proc/PID/limits is readable by
all. So each test's commands get an odd soft RLIMIT_MSGQUEUE (POSIX message queues, which nothing
here uses), and whoever still has it at the end was left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


def _random_limit() -> int:
    # Random, as other runs of the tests may be under way on this machine. SystemRandom, as
    # hypothesis and tests seed the other one.
    _, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    return random.SystemRandom().randrange(1, hard if hard > 0 else 819200)


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark: processes started inside `inherited` have it, and so have all their children."""

    value: int = field(default_factory=_random_limit)

    @contextlib.contextmanager
    def inherited(self) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (self.value, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, before)

    def processes(self) -> list[Process]:
        """Those that have the mark and run (not zombies)."""
        return list(self._find())

    def wait_gone(self, seconds: float) -> list[Process]:
        """Wait until no process has the mark; returns those left when the time is over."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                _wait_exited(process.pid, deadline)
        return left

    def kill(self) -> None:
        """SIGKILL for all that have the mark, and for those they fork meanwhile."""
        while left := self.processes():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            if self.wait_gone(5) == left:
                return  # not ours to kill

    def _find(self) -> Iterator[Process]:
        pattern = re.compile(rf"^Max msgqueue size\s+{self.value}\s", re.MULTILINE)
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # it may end while it is looked at
                if pattern.search((entry / "limits").read_text()) and not _is_zombie(entry):
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    command = os.fsdecode(b" ".join(arguments)).strip()
                    yield Process(int(entry.name), command or (entry / "comm").read_text().strip())


def _is_zombie(entry: Path) -> bool:
    # proc_pid_stat(5): the state follows the name, which is in brackets and may hold brackets
    return (entry / "stat").read_text().rpartition(") ")[2].startswith(("Z", "X"))


def _wait_exited(pid: int, deadline: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(pidfd)

"""Processes that can not be mistaken for others: pid and start time, through a pidfd."""

from __future__ import annotations

import os
import select
import signal

from msgspec import Struct


class ProcessRef(Struct, frozen=True):
    """A process: *pid* as the host's /proc shows it, *start_time* in clock ticks since boot.

    Pids are used again, and state files outlive a boot, so a bare pid means nothing.
    """

    pid: int
    start_time: int
    boot_id: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessRef:
        """Return the reference of a living process. Raises ProcessLookupError."""
        return cls(pid, start_time(pid), boot_id())

    def open(self) -> int | None:
        """Return a pidfd (pidfd_open(2)), or None when the process is gone."""
        if self.boot_id != boot_id():
            return None
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return None
        try:
            # The pidfd pins the process: if the start time agrees now, it is the right one.
            if start_time(self.pid) == self.start_time and not exited(pidfd):
                return pidfd
        except ProcessLookupError:
            pass
        os.close(pidfd)
        return None

    def alive(self) -> bool:
        pidfd = self.open()
        if pidfd is None:
            return False
        os.close(pidfd)
        return True

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Send a signal; return False when the process is gone."""
        pidfd = self.open()
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the process has exited; return False when *seconds* went by first."""
        pidfd = self.open()
        if pidfd is None:
            return True
        try:
            return exited(pidfd, seconds)
        finally:
            os.close(pidfd)


def forget_command_line() -> None:
    """Blank what /proc/PID/cmdline shows of this process.

    All who see the process may read it (proc_pid_cmdline(5)), and it names paths of the host and
    the user's options. /proc/PID/stat tells where it lies: arg_start (48) and arg_end (49).
    """
    import ctypes

    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def own_pid() -> int:
    """Return the own pid as the host's /proc shows it."""
    return int(os.readlink("/proc/self"))


def exited(pidfd: int, seconds: float | None = 0) -> bool:
    """True when the process has exited (a pidfd is readable then), waiting up to *seconds*."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if seconds is None else seconds * 1000))


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat (proc(5)). Raises ProcessLookupError."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    # The second field, the program's name, may hold spaces and parentheses.
    return int(content[content.rindex(b")") + 2 :].split()[19])


_boot_id = ""


def boot_id() -> str:
    """Return the kernel's random id of this boot (random(4))."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot_id = file.read().strip()
    return _boot_id

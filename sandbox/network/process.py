"""A network program that ends with the process that started it and says when it is ready."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sandbox.linux.syscalls import PR_SET_PDEATHSIG, close_range, prctl

# The descriptors that a program gets. The namespaces stand where standard input and output would
# be: some versions of pasta close every other descriptor before they look at the options. A path
# below /proc/self needs no access to the container's init, whatever its credentials are by then.
# The report has two: slirp4netns closes the one that it calls ready on, and standard error must
# not become something else then.
USERNS_FD, NETNS_FD, REPORT_FD, READY_FD = 0, 1, 2, 3
USERNS_PATH = f"/proc/self/fd/{USERNS_FD}"
NETNS_PATH = f"/proc/self/fd/{NETNS_FD}"
REPORT_PATH = f"/proc/self/fd/{REPORT_FD}"

# The program needs nothing of the user's environment.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}


@dataclass(frozen=True, slots=True)
class NetworkProcess:
    """A running program. *report_fd* is readable when it has something to say, or has ended."""

    program: str
    pid: int
    pidfd: int
    report_fd: int


def spawn(
    argv: Sequence[str], userns: int, netns: int, *, ignored: Sequence[signal.Signals] = ()
) -> NetworkProcess:
    """Start *argv* with the namespaces as descriptors 0 and 1 and its report as 2 and 3.

    All signals have their default action but those *ignored*. It is killed when the calling
    *thread* ends (PR_SET_PDEATHSIG): call this from the main one.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(argv, (userns, netns, writer, writer), ignored, parent)
    os.close(writer)
    return NetworkProcess(argv[0], pid, os.pidfd_open(pid), reader)


def wait_reported(
    process: NetworkProcess, seconds: float, is_ready: Callable[[bytes], bool]
) -> tuple[bool, str]:
    """Read the report until *is_ready* takes it; return that and the text so far.

    False: the program ended first, or did not say so within *seconds*.
    """
    deadline = time.monotonic() + seconds
    report = b""
    poller = select.poll()
    poller.register(process.report_fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            return False, f"{report.decode(errors='replace')}\nno answer within {seconds:g} s"
        chunk = os.read(process.report_fd, 4096)
        report += chunk
        if is_ready(report):
            return True, report.decode(errors="replace")
        if not chunk:
            return False, report.decode(errors="replace")


def end(process: NetworkProcess) -> None:
    """Kill the program, which has nothing to save, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED)


def _become(
    argv: Sequence[str],
    fds: tuple[int, ...],
    ignored: Sequence[signal.Signals],
    parent: int,
) -> NoReturn:
    """In the child: put the descriptors in place and execute. Never returns."""
    status = 127
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Across pid namespaces getppid(2) is 0, and then the namespace's own pid 1 ends with the
        # supervisor anyway.
        if os.getppid() not in (parent, 0):
            os._exit(status)
        _set_signals(ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _place(fds)
        close_range(len(fds))
        os.chdir("/")
        os.execvpe(argv[0], list(argv), _ENVIRONMENT)
    except OSError as err:
        os.write(REPORT_FD, f"{argv[0]}: {err.strerror}\n".encode())
    finally:
        os._exit(status)


def _set_signals(ignored: Sequence[signal.Signals]) -> None:
    # Python ignores SIGPIPE, which is inherited, and which pasta takes for an error.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def _place(fds: tuple[int, ...]) -> None:
    # First out of the way: a source may itself be one of the targets.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)

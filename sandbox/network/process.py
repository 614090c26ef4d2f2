"""A network program that ends with the process that started it and says when it is ready."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sandbox.linux.processes import exited
from sandbox.linux.syscalls import close_range
from sandbox.network.loopback import enter_netlink

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

END_TIMEOUT = 5.0  # seconds; a killed program needs milliseconds


@dataclass(frozen=True, slots=True)
class NetworkProcess:
    """A running program. *report_fd* is readable when it has something to say, or has ended."""

    program: str
    pid: int  # as this /proc shows it
    pidfd: int
    report_fd: int


def spawn(
    argv: Sequence[str], userns: int, netns: int, *, ignored: Sequence[signal.Signals] = ()
) -> tuple[NetworkProcess, socket.socket]:
    """Start *argv* with the namespaces as descriptors 0 and 1 and its report as 2 and 3.

    Also returns an rtnetlink socket of *netns*. All signals have their default action but those
    *ignored*. The program is a child of pid 1 of the pid namespace that children go to. With
    that, it ends, and nobody else has to reap it: a namespace's pid 1 can't finish to exit while
    one of its processes is a zombie that somebody outside has to wait for
    (pid_namespaces(7), zap_pid_ns_processes()).
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    here, there = socket.socketpair()
    with here, there:
        starter = os.fork()
        if starter == 0:
            _start(argv, (userns, netns, writer, writer), ignored, there)
        os.close(writer)
        there.close()
        message, fds, _, _ = socket.recv_fds(here, 256, 2)
    os.waitpid(starter, 0)
    if len(fds) != 2:
        os.close(reader)
        number, _, what = message.decode().partition(" ")
        raise OSError(int(number or errno.EIO), os.strerror(int(number or errno.EIO)), what)
    process = NetworkProcess(argv[0], pid_of(fds[0]), fds[0], reader)
    return process, socket.socket(fileno=fds[1])


def pid_of(pidfd: int) -> int:
    """Return the pid that /proc shows for *pidfd* (pidfd_open(2)); -1 when it is reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return int(next(line for line in file if line.startswith("Pid:")).split()[1])


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
    """Kill the program, which has nothing to save, and wait until its ports are free."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
    exited(process.pidfd, END_TIMEOUT)


def _start(
    argv: Sequence[str],
    fds: tuple[int, ...],
    ignored: Sequence[signal.Signals],
    to: socket.socket,
) -> NoReturn:
    """In the child: start the program, hand over its pidfd and a netlink socket, and go."""
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, fds, ignored)
        pidfd = os.pidfd_open(pid)
        netlink = enter_netlink(fds[NETNS_FD])
        socket.send_fds(to, [b"0"], [pidfd, netlink.fileno()])
    except OSError as err:
        to.send(f"{err.errno} {err.filename or argv[0]}".encode())
    finally:
        os._exit(0)


def _become(
    argv: Sequence[str],
    fds: tuple[int, ...],
    ignored: Sequence[signal.Signals],
) -> NoReturn:
    """In the child's child: put the descriptors in place and execute. Never returns."""
    status = 127
    try:
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

"""A network program that ends with the process that started it and says when it is ready."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from msgspec import Struct

from sandbox.linux.syscalls import PR_SET_PDEATHSIG, close_range, prctl
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

_ORDER_SIZE = 1 << 18  # bytes; a command line with a few thousand ports


class NetworkProcess(Struct, frozen=True):
    """A running program. *report_fd* is readable when it has something to say, or has ended."""

    program: str
    pid: int  # as this /proc shows it
    pidfd: int
    report_fd: int


class Starter:
    """A child that waits to become a network program.

    It is made before the supervisor's children go to a pid namespace of their own
    (unshare(2), CLONE_NEWPID), and so stays outside: a namespace's pid 1 can't finish to exit while
    one of its processes still does (zap_pid_ns_processes()), and a network program needs 20 ms and
    more for that, because the kernel takes its interface down. It is killed when the calling
    *thread* ends (PR_SET_PDEATHSIG): make it in the main one.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            self._pid = os.fork()
            if self._pid == 0:
                _wait_for_order(theirs, parent)
        self._pidfd = os.pidfd_open(self._pid)
        self._closed = False

    def spawn(
        self,
        argv: Sequence[str],
        userns: int,
        netns: int,
        *,
        ignored: Sequence[signal.Signals] = (),
    ) -> NetworkProcess:
        """Become *argv* with the namespaces as descriptors 0 and 1 and its report as 2 and 3.

        All signals have their default action but those *ignored*.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        order = json.dumps({"argv": list(argv), "ignored": [int(number) for number in ignored]})
        socket.send_fds(self._socket, [order.encode()], [userns, netns, writer])
        os.close(writer)
        return NetworkProcess(argv[0], self._pid, self._pidfd, reader)

    def receive_netlink(self) -> socket.socket:
        """Return the rtnetlink socket of the namespace that `spawn` got. Raises OSError."""
        message, fds, _, _ = socket.recv_fds(self._socket, 256, 1)
        if not fds:
            number = int(message or errno.EIO)
            raise OSError(number, os.strerror(number), "network namespace")
        return socket.socket(fileno=fds[0])

    def close(self, *, wait: bool = False) -> None:
        """Kill it, or what it has become, which has nothing to save. *wait* until it is gone.

        A second time, nothing happens.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | (0 if wait else os.WNOHANG))
        os.close(self._pidfd)
        self._socket.close()


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


def _wait_for_order(orders: socket.socket, parent: int) -> NoReturn:
    """In the child: wait, hand over a netlink socket, execute."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        _set_signals(())
        # Nothing of the supervisor's is held open meanwhile.
        os.dup2(orders.fileno(), 0)
        close_range(1)
        with socket.socket(fileno=0) as mine:
            message, fds, _, _ = socket.recv_fds(mine, _ORDER_SIZE, 3)
            if len(fds) != 3:
                os._exit(0)
            _hand_over_netlink(fds[NETNS_FD], mine)
            mine.detach()
        order = json.loads(message)
        _become(order["argv"], (*fds, fds[REPORT_FD]), order["ignored"])
    finally:
        os._exit(1)


def _hand_over_netlink(netns: int, to: socket.socket) -> None:
    """Send a netlink socket of *netns*: a child gets it, as nobody comes back from there."""
    pid = os.fork()
    if pid == 0:
        try:
            socket.send_fds(to, [b"0"], [enter_netlink(netns).detach()])
        except OSError as err:
            to.send(str(err.errno).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _become(
    argv: Sequence[str],
    fds: tuple[int, ...],
    ignored: Sequence[int],
) -> NoReturn:
    """In the child: put the descriptors in place and execute. Never returns."""
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


def _set_signals(ignored: Sequence[int]) -> None:
    # Python ignores SIGPIPE, which is inherited, and which pasta takes for an error.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def _place(fds: tuple[int, ...]) -> None:
    # First out of the way: a source may itself be one of the targets.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)

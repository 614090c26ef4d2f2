"""A small network for tests: a "host" that is a network namespace, and containers on it.

Nothing of the real host's network is used, so that the tests need no outside and the "host" may
have any resolver and privileged port. Sockets are made inside a namespace by a forked child, which
sends them here: a test holds both ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sandbox.errors import SbxError
from sandbox.linux import loopback, syscalls
from sandbox.network import connection as network
from sandbox.spec import Port

ADDRESS = "10.9.8.7"
ADDRESS6 = "fd09:8:7::1"
GATEWAY = "10.9.8.1"
GATEWAY6 = "fd09:8:7::ff"
OUTSIDE = "10.50.0.1"  # stands for another machine: no address that the container has itself
LIMIT = 10.0  # seconds that anything may take


@dataclass(frozen=True)
class Namespace:
    """The user and network namespaces of a process that does nothing else."""

    pid: int
    opened: contextlib.ExitStack  # closes the sockets with the namespace

    def open(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket that *make* makes in there; its OSError is raised here."""
        here, there = socket.socketpair()
        with here, there:
            child = fork(lambda: self._send(make, there))
            there.close()
            message, fds, _, _ = socket.recv_fds(here, 64, 1)
            os.waitpid(child, 0)
        if fds:
            made = self.opened.enter_context(socket.socket(fileno=fds[0]))
            made.settimeout(LIMIT)
            return made
        number = int(message)
        raise OSError(number, os.strerror(number))

    def run(self, *argv: str) -> str:
        """Run a command in there and return its standard output."""
        namespaces = ("nsenter", "-t", str(self.pid), "-U", "-n", "--preserve-credentials")
        done = subprocess.run([*namespaces, *argv], capture_output=True, text=True, check=True)
        return done.stdout

    def enter(self) -> None:
        pidfd = os.pidfd_open(self.pid)
        syscalls.setns(pidfd, syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
        os.close(pidfd)

    def _send(self, make: Callable[[], socket.socket], to: socket.socket) -> None:
        try:
            self.enter()
            made = make()
            socket.send_fds(to, [b"ok"], [made.fileno()])
        except OSError as err:
            to.sendall(str(err.errno or 0).encode())


@dataclass(frozen=True)
class Container(Namespace):
    """A namespace that a supervisor has connected."""

    supervisor: int
    guard: int  # pid 1 of the namespace that container and program are in
    program: int  # pid of pasta or slirp4netns
    ports: tuple[str, ...]

    @property
    def host_port(self) -> int:
        """The host's port of the first published one."""
        return int(self.ports[0].split("->")[0].rpartition(":")[2])


@contextlib.contextmanager
def host() -> Iterator[Namespace]:
    """A network namespace with one interface, addresses and default routes of both families."""
    with _held(_wait_forever, "host") as pid, contextlib.ExitStack() as opened:
        namespace = Namespace(pid, opened)
        for command in (
            "ip link set lo up",
            "ip link add eth0 type veth peer name wire",
            "ip link set wire up",
            "ip link set eth0 up",
            f"ip addr add {ADDRESS}/24 dev eth0",
            f"ip -6 addr add {ADDRESS6}/64 dev eth0 nodad",
            f"ip route add default via {GATEWAY}",
            f"ip -6 route add default via {GATEWAY6}",
            f"ip addr add {OUTSIDE}/32 dev wire",
        ):
            namespace.run(*command.split())
        yield namespace


@contextlib.contextmanager
def container(
    on: Namespace,
    *,
    ports: Sequence[Port] = (),
    program: network.Program | None = "pasta",
    resolv_conf: Path | None = None,
) -> Iterator[Container]:
    """A container on the host *on*. Raises what connecting it raised."""
    reader, writer = os.pipe()
    control, keep = os.pipe()

    def main() -> None:
        os.close(keep)
        os.close(reader)
        on.enter()
        _supervise(writer, control, ports, program, resolv_conf)

    supervisor = fork(main)
    os.close(writer)
    os.close(control)
    try:
        with os.fdopen(reader, "rb") as file:
            report = json.loads(file.readline())
        if "error" in report:
            raise _error(report)
        with contextlib.ExitStack() as opened:
            published = tuple(report["ports"])
            yield Container(
                report["pid"], opened, supervisor, report["guard"], report["program"], published
            )
    finally:
        os.close(keep)
        os.waitpid(supervisor, 0)


def fork(function: Callable[[], Any]) -> int:
    """Run *function* in a child and return its pid; the child ends with it."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def new_namespaces(flags: int) -> None:
    """Unshare with a new user namespace in which this user is root."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _wait_forever() -> NoReturn:
    while True:
        signal.pause()


@contextlib.contextmanager
def _held(function: Callable[[], None], name: str) -> Iterator[int]:
    """A process with namespaces of its own, running *function* until the block is left."""
    reader, writer = os.pipe()

    def main() -> None:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        new_namespaces(syscalls.CLONE_NEWNET)
        os.write(writer, b"x")
        os.close(writer)
        function()

    pid = fork(main)
    os.close(writer)
    try:
        if os.read(reader, 1) != b"x":
            raise OSError(f"no namespaces for the {name}")
        yield pid
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _supervise(
    writer: int,
    control: int,
    ports: Sequence[Port],
    program: network.Program | None,
    resolv_conf: Path | None,
) -> None:
    """Be the supervisor: namespaces of its own, a guard, a container, a connection."""
    new_namespaces(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    if resolv_conf is not None:
        syscalls.mount(resolv_conf, "/etc/resolv.conf", None, syscalls.MS_BIND)
    starter = network.prepare("private")
    syscalls.unshare(syscalls.CLONE_NEWPID)
    guard = fork(_guard)
    with _held(_interior, "container") as pid, contextlib.ExitStack() as stack:
        namespaces = network.open_namespaces(pid, stack)
        try:
            link = network.start(
                "private", *namespaces, starter=starter, ports=ports, program=program
            )
            link.wait_ready()
        except SbxError as err:
            report: dict[str, Any] = {"error": type(err).__name__, "args": _words(err)}
        else:
            stack.callback(link.close)
            assert link.process is not None
            report = {
                "pid": pid,
                "guard": guard,
                "program": link.process.pid,
                "ports": link.ports,
            }
        os.write(writer, json.dumps(report).encode() + b"\n")
        _reap_until_told(pid, control)


def _reap_until_told(pid: int, control: int) -> None:
    """Wait for the container, as a supervisor does, until the test ends."""
    pidfd = os.pidfd_open(pid)
    if pidfd in select.select([pidfd, control], [], [])[0]:
        os.waitpid(pid, 0)
        os.read(control, 1)


def _guard() -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    _wait_forever()


def _interior() -> None:
    loopback.bring_up()
    _wait_forever()


def _words(err: SbxError) -> list[str | None]:
    return [err.message, err.detail, err.hint]


def _error(report: dict[str, Any]) -> SbxError:
    import sandbox.errors

    message, detail, hint = report["args"]
    kind: type[SbxError] = getattr(sandbox.errors, report["error"])
    return kind(message, detail=detail, hint=hint)

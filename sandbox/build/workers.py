"""Functions called in child processes, while this process's event loop goes on.

A step of a build needs a process of its own: a supervisor forks containers and must have no
threads, the merged view changes the working directory, and hashing shall use the other processor.
Forking beside a running loop is fragile, so a *forker* is started before there is one; it has
neither threads nor a loop and does nothing but fork. When this process dies, however it dies, the
kernel ends the forker and with it all its children (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import array
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

import trio

from sandbox.errors import SbxError
from sandbox.linux.syscalls import PR_SET_PDEATHSIG, prctl, set_name

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
_CHUNK = 1 << 16


class Workers:
    """The forker, and calls in children of it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._forker = os.fork()
        if self._forker == 0:
            self._socket.close()
            _be_forker(theirs, parent)
        theirs.close()

    def close(self) -> None:
        """End the forker, and with it all that is still at work."""
        self._socket.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._forker, signal.SIGKILL)
            os.waitpid(self._forker, 0)

    async def call(
        self,
        output: Callable[[bytes], None],
        function: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> T:
        """Return ``function(*args)``, called in a child; what it prints goes to *output*.

        Arguments and result are pickled. Raises what the function raised, if that is an SbxError.
        When this is cancelled the child is killed, and awaited.
        """
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        pidfd = self._fork(theirs, write)
        connection = trio.lowlevel.FdStream(ours.detach())
        prints = trio.lowlevel.FdStream(read)
        try:
            async with connection, prints:
                await connection.send_all(_packed((function, args)))
                answer = b""
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pass_on, prints, output)
                    async for chunk in connection:
                        answer += chunk
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)
        if not answer:
            raise SbxError("a process of the build was killed")
        success, value = pickle.loads(answer)
        if not success:
            raise value
        result: T = value
        return result

    def _fork(self, connection: socket.socket, output: int) -> int:
        """Have a child made with these two; return its pidfd."""
        with connection:
            try:
                rights = array.array("i", [connection.fileno(), output])
                self._socket.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                _, fds, _, _ = socket.recv_fds(self._socket, 1, 1)
            except OSError as err:
                raise SbxError("the build's processes are gone", detail=str(err)) from err
            finally:
                os.close(output)
        if not fds:
            raise SbxError("the build's processes are gone")
        return fds[0]


async def _pass_on(stream: trio.lowlevel.FdStream, output: Callable[[bytes], None]) -> None:
    async for chunk in stream:
        output(bytes(chunk))


def _packed(value: Any) -> bytes:
    data = pickle.dumps(value)
    return len(data).to_bytes(8, "big") + data


def _be_forker(requests: socket.socket, parent: int) -> NoReturn:
    try:
        _follow_into_death(parent)
        set_name("sbx-forker")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Nobody waits for the children: the kernel reaps them (wait(2), NOTES).
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for target in (0, 1):
            os.dup2(null, target)
        while True:
            data, fds, _, _ = socket.recv_fds(requests, 1, 2)
            if not data or len(fds) != 2:
                break
            forker = os.getpid()
            child = os.fork()
            if child == 0:
                _be_worker(requests, fds[0], fds[1], forker)
            for descriptor in fds:
                os.close(descriptor)
            pidfd = os.pidfd_open(child)
            socket.send_fds(requests, [b"p"], [pidfd])
            os.close(pidfd)
    finally:
        os._exit(0)


def _follow_into_death(parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above


def _be_worker(requests: socket.socket, answers: int, output: int, forker: int) -> NoReturn:
    try:
        _follow_into_death(forker)
        requests.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target in (1, 2):
            os.dup2(output, target)
        os.close(output)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        connection = socket.socket(fileno=answers)
        size = int.from_bytes(_read(connection, 8), "big")
        function, args = pickle.loads(_read(connection, size))
        result = _outcome(function, args)
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(result)
        connection.close()
    finally:
        os._exit(0)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(*args)))
    except SbxError as err:
        return pickle.dumps((False, err))
    except BaseException as err:
        detail = f"{type(err).__name__}: {err}"
        if os.environ.get("SBX_DEBUG"):
            import traceback

            detail = traceback.format_exc()
        return pickle.dumps((False, SbxError("internal error in a build's step", detail=detail)))


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            os._exit(1)
        data += part
    return data

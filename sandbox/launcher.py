"""The launcher: a warm process per user that forks command processes. A hot start, nothing more.

Everything is imported and the garbage collector's generations are frozen, so that a fork shares
its pages. One thread, no event loop; it lives in the user's storage namespace. No container
belongs to it: ending it ends none. It ends by itself when nobody asked for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import math
import os
import select
import signal
import socket
import sys
import time

from sandbox import call, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from sandbox.engine.spare import Wish
    from sandbox.linux.storage_userns import User

    class Closeable(Protocol):
        def close(self) -> None: ...


_IDLE_SECONDS = 600.0
_CHECK_SECONDS = 5.0
_WORKER_DELAY = 0.05
_WORKER_SECONDS = 1.0
# These look at the host as the user sees it, not from the storage namespace.
_ON_HOST = ("doctor", "top")


def spawn(key: str) -> None:
    """Start a launcher in the background, for the commands to come."""
    if os.fork() != 0:
        return
    try:
        os.setsid()
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(null, target)
        os.closerange(3, 1 << 16)
        os.execv(sys.executable, [sys.executable, "-P", "-m", "sandbox.launcher", key])
    finally:
        os._exit(1)


def main() -> None:
    """Serve until idle. The argument is the key that clients look for (`call.launcher_key`)."""
    key = sys.argv[1]
    from sandbox.command_process import host_user
    from sandbox.engine.context import Context

    context = Context.create(os.environ, host_user(dict(os.environ)), None, in_storage=False)
    path = f"{context.paths.runtime}/launcher-{key}.sock"
    context.enter_storage()
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino != os.stat(f"{path}.lock").st_ino:
            return  # removed as a dead one's, just before it was locked: the next one comes soon
    except (BlockingIOError, FileNotFoundError):
        return  # another one was quicker
    # Before the long imports: whoever comes meanwhile joins this namespace instead of making one.
    from sandbox.linux import storage_userns

    storage_userns.register(context.paths.runtime / "userns")
    _preload()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        listener.listen(64)
        try:
            _serve(listener, path, context.user)
        finally:
            os.unlink(path)


# What the commands import by the time they are done. A test compares it with what a run imports.
PRELOADED = (
    "tomllib._parser",
    "trio",
    "sandbox.cli.exec_",
    "sandbox.cli.images",
    "sandbox.cli.kill",
    "sandbox.cli.logs",
    "sandbox.cli.main",
    "sandbox.cli.ps",
    "sandbox.cli.rm",
    "sandbox.cli.run",
    "sandbox.cli.stop",
    "sandbox.container.init",
    "sandbox.engine.containers",
    "sandbox.engine.images",
    "sandbox.engine.prepared",
    "sandbox.engine.profile_format",
    "sandbox.engine.profiles",
    "sandbox.image.store",
    "sandbox.overlay.guard",
    "sandbox.supervisor.log_file",
    "sandbox.supervisor.supervise",
)


def _preload() -> None:
    """Import what commands need and keep it out of the collector's sight, so pages stay shared."""
    from importlib import import_module

    from fuse_overlay import server
    from sandbox.engine import profiles

    for name in PRELOADED:
        import_module(name)
    server.preload()
    profiles.warm(os.environ.get("HOME") or "/")
    gc.collect()
    gc.freeze()


def _serve(listener: socket.socket, path: str, user: User) -> None:
    """Fork a command process for each connection, until nobody came for a while."""
    from sandbox.engine.spare import SpareMaker

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    own = os.stat(path).st_ino
    last = time.monotonic()
    spares, worker = SpareMaker(os.path.dirname(path)), Worker()
    while time.monotonic() - last < _IDLE_SECONDS:
        wait = min(_CHECK_SECONDS, spares.due_in(), worker.due_in())
        watched: list[Any] = [listener, spares, *worker.busy]
        readable, _, _ = select.select(watched, [], [], wait)
        if spares in readable:
            spares.hear()
        for orders in worker.busy.intersection(readable):
            worker.hear(orders)
        if listener not in readable:
            if wish := spares.due():
                _fork_spare(wish, (listener, spares, worker), user)
            elif worker.due_in() <= 0:
                worker.fork((listener, spares), user)
            if not readable and not _is_ours(path, own):
                return
            continue
        last = time.monotonic()
        connection, _ = listener.accept()
        with connection:
            if call.peer_uid(connection) != os.getuid() or worker.take(connection):
                continue
            if os.fork() == 0:
                for ours in (listener, spares, worker):
                    ours.close()
                _be_command(connection, user)


class Worker:
    """A process forked ahead, for the next command: its fork and first steps cost nobody's time.

    It is made a moment after the last one was taken, so as not to be in that one's way. One whose
    client was handed over to a spare has done nothing that stays: it takes the next one, and what
    it looks at then is all its own already.
    """

    def __init__(self) -> None:
        self.busy: set[socket.socket] = set()  # those that have not said what becomes of them
        self._orders: socket.socket | None = None
        self._due = time.monotonic()

    def due_in(self) -> float:
        """Return the seconds until one is to be forked; much when one is there."""
        return max(self._due - time.monotonic(), 0.0) if self._orders is None else math.inf

    def fork(self, others: Sequence[Closeable], user: User) -> None:
        """Fork one; *others* are the launcher's, to be closed in it."""
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(_WORKER_SECONDS)
        with theirs:
            if os.fork() == 0:
                for other in (*others, self):
                    other.close()
                _be_worker(theirs, user)

    def take(self, connection: socket.socket) -> bool:
        """Give it a client; False when there is none, or it does not answer."""
        orders, self._orders = self._orders, None
        self._due = time.monotonic() + _WORKER_DELAY
        if orders is None:
            return False
        try:
            socket.send_fds(orders, [b"client"], [connection.fileno()])
            # It has to say so: one that was killed before it looked has not taken anybody.
            if orders.recv(1):
                self.busy.add(orders)
                return True
        except OSError:
            pass
        orders.close()
        return False

    def hear(self, orders: socket.socket) -> None:
        """Receive from one of `busy` that it is free again, or that it has become a command."""
        self.busy.remove(orders)
        try:
            free = bool(orders.recv(1))
        except OSError:
            free = False
        if free and self._orders is None:
            self._orders = orders
        else:
            orders.close()

    def close(self) -> None:
        for orders in (self._orders, *self.busy):
            if orders is not None:
                orders.close()


def _be_worker(orders: socket.socket, user: User) -> None:
    from sandbox import command_process

    try:
        os.setsid()
        limits = call.limits()
        command_process.rehearse(user)
        while True:
            _, fds, _, _ = socket.recv_fds(orders, 16, 1)
            if not fds:
                os._exit(0)  # the launcher has ended, or has another one
            orders.send(b"t")
            _carry_out(socket.socket(fileno=fds[0]), user, orders)
            # It was handed over. What was lowered for it can't be raised again.
            if call.limits() != limits:
                os._exit(0)
            orders.send(b"f")
    finally:
        os._exit(1)


def _fork_spare(wish: Wish, others: Sequence[Closeable], user: User) -> None:
    launcher = os.getpid()
    if os.fork() == 0:
        from sandbox import command_process

        for other in others:
            other.close()
        command_process.run_spare(wish, user, launcher)


def _be_command(connection: socket.socket, user: User) -> None:
    try:
        os.setsid()
        _carry_out(connection, user, None)
    finally:
        os._exit(1)


def _carry_out(connection: socket.socket, user: User, orders: socket.socket | None) -> None:
    """Carry out a client's command; returns only when somebody else does."""
    from sandbox import command_process
    from sandbox.cli.commands import find

    request, fds = wire.receive_with_fds(connection, 4)
    if len(fds) != 4:
        os._exit(1)
    found = find(request["argv"])
    if found is not None and found[0] in _ON_HOST:
        wire.send(connection, {"cold": True})
        os._exit(0)
    if orders is not None and (found is None or found[0] != "run"):
        orders.close()  # only a run is ever handed over
        orders = None
    command_process.run_warm(connection, request, fds, user, orders)


def _is_ours(path: str, inode: int) -> bool:
    try:
        return os.stat(path).st_ino == inode
    except OSError:
        return False


if __name__ == "__main__":
    main()

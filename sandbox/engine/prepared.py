"""Being a spare container's process: prepare it, wait for somebody to take it, supervise it."""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

from msgspec.structs import replace

from sandbox import call, wire
from sandbox.container.assignment import Assignment, fits
from sandbox.engine.context import Context
from sandbox.engine.preparation import Preparation
from sandbox.engine.removal import delete
from sandbox.engine.run import Run
from sandbox.engine.spare import Wish, address
from sandbox.errors import never_ran_codes
from sandbox.linux.processes import ProcessRef, exited, own_pid
from sandbox.linux.syscalls import PR_SET_PDEATHSIG, prctl
from sandbox.spec import ContainerSpec, from_json, to_json
from sandbox.state import Containers, Status

_UNUSED_SECONDS = 300.0
_REQUEST_SECONDS = 10.0


class Spare:
    """A container that is made for nobody yet. *stack* releases what it takes."""

    def __init__(self, wish: Wish, context: Context, stack: ExitStack, launcher: int) -> None:
        self._wish = wish
        self._context = context
        self._stack = stack
        self._unused = stack.enter_context(ExitStack())  # what goes if nobody takes it
        self._launcher = launcher
        self._containers = Containers(context.paths)
        self._status = Status(supervisor=ProcessRef.of(own_pid()))

    def prepare(self) -> None:
        """Take the container to where its init waits. Raises SbxError or OSError."""
        spec = self._wish.spec
        self._listen()
        self._lower = _identities(spec.lower)
        # Named anew: a spare is like the container that was, and never it.
        spare_id = os.urandom(32).hex()
        self._directory = self._containers.create_spare(spare_id, self._status)
        self._unused.callback(delete, self._directory)
        made = Preparation(replace(spec, id=spare_id), self._context, self._stack)
        self._preparation = made
        self._plan = made.plan(self._directory)
        self._started = made.start(self._plan, self._directory)
        self._unused.callback(self._started.abandon)
        if made.cgroup is not None:
            self._status = replace(self._status, cgroup=made.cgroup.path)
            self._containers.write_status(self._directory, self._status)
        made.wait_connected()
        # "mounted" is there, or what went wrong: the overlay has found its directories, by a name
        # that they lose when somebody takes them.
        select.select([self._started.channel.fileno(), self._started.guard_pidfd], [], [])
        self._started.channel.send({"step": "rehearse"})
        self._rehearse()
        self._end_with_launcher()

    def _rehearse(self) -> None:
        """Go once through what is done when somebody comes, changing nothing
        (`command_process.rehearse` tells what for)."""
        import trio

        spec = from_json(ContainerSpec, to_json(self._preparation.spec))
        plan = Preparation(spec, self._context, self._stack).plan(self._directory)
        to_json(Assignment.of(plan))
        fits(self._plan, plan)
        trio.run(trio.lowlevel.checkpoint)

    def wait_for_taker(self) -> tuple[socket.socket, dict[str, Any], list[int]]:
        """Return who wants it and what they sent; SystemExit when nobody came for long."""
        watched = (self._listener, self._started.guard_pidfd, self._started.pidfd)
        readable, _, _ = select.select(watched, [], [], _UNUSED_SECONDS)
        if readable != [self._listener]:
            raise SystemExit
        taker, _ = self._listener.accept()
        self._close_listener()
        if call.peer_uid(taker) != os.getuid():
            raise SystemExit
        taker.settimeout(_REQUEST_SECONDS)
        request, fds = wire.receive_with_fds(taker, 4)
        if len(fds) != 4:
            raise SystemExit
        return taker, request, fds

    def accept(self, request: dict[str, Any], context: Context, taker: socket.socket) -> None:
        """Tell the taker that the client is ours from now on; SystemExit when this doesn't fit."""
        spec = from_json(ContainerSpec, request["spec"])
        made = self._preparation
        asked = Preparation(spec, context, self._stack)
        wanted = asked.plan(self._directory)
        network = made.network.process
        if (
            not fits(self._plan, wanted)
            or _identities(spec.lower) != self._lower
            or (network is not None and exited(network.pidfd))
        ):
            raise SystemExit
        prctl(PR_SET_PDEATHSIG, 0)
        if os.getppid() != self._launcher:
            raise SystemExit  # it has died, and the signal is on its way
        made.spec, made.context = spec, context
        self._assignment = Assignment.of(wanted)
        self._taker = taker
        wire.send(taker, {"taken": True})
        asked.warn(*(w for w in made.warnings if w not in asked.warnings))

    def run(self) -> int:
        """Be the container that was accepted; return its exit code. Raises SbxError."""
        made = self._preparation
        with never_ran_codes():
            # Until it is written down what the container stands on, the taker keeps that in place.
            with self._taker:
                directory = self._containers.adopt(
                    self._directory, made.spec, lambda: self._started.go(self._assignment)
                )
            self._unused.pop_all()
            run = Run(made, self._started, directory, self._status, begun=True)
            return run.carry_out()

    def _listen(self) -> None:
        self._address = address(self._context.paths.runtime, self._wish.key)
        with suppress(FileNotFoundError):
            os.unlink(self._address)
        self._listener = socket.socket(socket.AF_UNIX)
        self._unused.callback(self._close_listener)
        self._listener.bind(self._address)
        self._listener.listen(1)

    def _close_listener(self) -> None:
        """One container, one taker: later ones find nobody here."""
        if self._listener.fileno() >= 0:
            self._listener.close()
            with suppress(FileNotFoundError):
                os.unlink(self._address)

    def _end_with_launcher(self) -> None:
        signal.signal(signal.SIGTERM, _leave)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._launcher:
            raise SystemExit


def _leave(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the cleaning up
    raise SystemExit


def _identities(directories: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return which directories these are: a layer that was unpacked anew is another one."""
    found = map(os.stat, directories)
    return [(status.st_dev, status.st_ino) for status in found]

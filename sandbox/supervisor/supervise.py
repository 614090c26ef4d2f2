"""Staying with a started container: streams, signals, limits, until it has ended."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct, field

from sandbox.container.channel import error_from
from sandbox.errors import SbxError
from sandbox.link import ClientLink
from sandbox.linux.descriptors import null_streams
from sandbox.spec import ContainerSpec, to_json
from sandbox.state import Denial
from sandbox.supervisor.client_session import (
    ClientSession,
    copy_window_size,
    set_window_size,
)
from sandbox.supervisor.control import Peer, listen
from sandbox.supervisor.denials import DenialRecorder, Explain
from sandbox.supervisor.detach_keys import DetachKeys
from sandbox.supervisor.log_file import LogFile
from sandbox.supervisor.start import Started
from sandbox.supervisor.streams import FanOut, Sink, copy_input, copy_output

# With the last process the kernel unmounts; the overlay server then writes back what is dirty.
_UNMOUNT_SECONDS = 30.0
TIMED_OUT = 124  # as timeout(1)


class Outcome(Struct):
    """How the container ended."""

    exit_code: int = 125
    error: SbxError | None = None
    timed_out: bool = False
    output_exceeded: bool = False
    denials: tuple[Denial, ...] = ()


class Hooks(Struct):
    """What the engine wants to do at the turning points."""

    ready: Callable[[], None]  # the mounts are made: wait for the network
    running: Callable[[], None]  # the command is being executed
    over: Callable[[], None]  # pid 1 has ended: release what was there for it
    ended: Callable[[Outcome], None]  # all is over but output on its way to the client
    control: Path | None  # where to listen for other commands
    request: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None  # see `control`
    explain: Explain | None = None  # what a denied call was, where the filter notifies
    going: Callable[[], None] = lambda: None  # the init does the last steps to the command
    # All output has been delivered. True: nothing more is to be had here, the client can be let go.
    delivered: Callable[[Outcome], bool] = lambda _: False
    changes_wanted: bool = True  # the upper is read later: all that is dirty has to reach it


class Supervision(Struct):
    """The state that the tasks share."""

    spec: ContainerSpec
    started: Started
    link: ClientLink | None
    log: LogFile | None
    hooks: Hooks
    outcome: Outcome = field(default_factory=Outcome)
    feeds_input: bool = True  # what is typed here goes in, where the spec has standard input open
    begun: bool = False  # the init has been given the word to go already
    input_once: bool = True  # the end of input from one who attached is that of the container's
    ended: trio.Event = field(default_factory=trio.Event)
    _control_done: trio.Event = field(default_factory=trio.Event)
    _guard_gone: trio.Event = field(default_factory=trio.Event)
    _is_over: bool = False
    _reaped: bool = False  # pid 1
    _output: int = 0
    _master: int | None = None
    _sinks: tuple[FanOut, FanOut] = field(
        default_factory=lambda: (FanOut(Sink(None)), FanOut(Sink(None)))
    )
    _delivered: trio.Event = field(default_factory=trio.Event)
    _input_scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _denials: DenialRecorder | None = None
    _client: ClientSession | None = None
    _pumps: trio.Event | None = None

    async def run(self) -> Outcome:
        """Supervise until the container has ended and its output is delivered."""
        async with trio.open_nursery() as nursery:
            if self.started.guard is not None:
                nursery.start_soon(self._watch_guard)
            nursery.start_soon(self._receive_signals)
            if self.link is not None:
                self._client = ClientSession(self.link)
                nursery.start_soon(self._follow_client, self._client)
            await nursery.start(self._serve_control)
            try:
                await self._begin(nursery)
            except SbxError as err:
                self.outcome.error = err
                self.outcome.exit_code = err.exit_code
                self.kill()
            await self._wait_ended()
            # A client that reads slowly gets all of it, however long that takes.
            if self._pumps is not None:
                await self._pumps.wait()
            self._delivered.set()
            self._let_client_go()
            await self._control_done.wait()
            await self._reap_all()
            nursery.cancel_scope.cancel()
        return self.outcome

    async def _serve_control(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            if self.hooks.control is None:
                task_status.started()
            else:
                path = self.hooks.control
                await listen(
                    path, self._answer, self.ended, self._delivered, task_status=task_status
                )
        finally:
            self._control_done.set()

    async def _begin(self, nursery: trio.Nursery) -> None:
        """Take the init from its mounts to the command, then start the streams."""
        message, fds = await self._from_init("mounted")
        self.hooks.ready()
        if fds:
            self._master = fds[0]
            copy_window_size(0, self._master)
        if not self.begun:
            self.started.go()
            self.hooks.going()
        while True:
            message, fds = await self._from_init("listening")
            if message is None:
                break
            if self.hooks.explain is None:
                os.close(fds[0])
                continue
            self._denials = DenialRecorder(fds[0], self.hooks.explain)
            nursery.start_soon(self._denials.serve)
        self.hooks.running()
        if self._master is not None and self._client is not None and not self.spec.detach:
            await self._client.make_raw()
        self._start_streams(nursery)
        if self.spec.limits.timeout is not None:
            nursery.start_soon(self._time_out, self.spec.limits.timeout)

    async def _from_init(self, step: str) -> tuple[dict[str, Any] | None, list[int]]:
        """Receive the init's message *step*; None at the end. Raises the error that it sent."""
        channel = self.started.channel
        await trio.lowlevel.wait_readable(channel.fileno())
        try:
            message, fds, _ = channel.receive()
        except ConnectionResetError:
            message, fds = None, []
        if message is not None and "error" in message:
            raise error_from(message)
        if message is None and step == "mounted":
            raise SbxError(
                "the container's init ended unexpectedly", hint="sbx doctor shows what is missing"
            )
        return message, fds

    def _start_streams(self, nursery: trio.Nursery) -> None:
        started, attached = self.started, self.link is not None and not self.spec.detach
        out, err = (1, 2) if attached else (None, None)
        self._sinks = (FanOut(Sink(out)), FanOut(Sink(err)))
        self._pumps = trio.Event()
        nursery.start_soon(self._pump_all, self._pumps)
        if not attached:
            if not self.spec.interactive:
                self._close_input()
            return
        if self._master is not None:
            if self.spec.interactive and self.feeds_input:
                nursery.start_soon(self._type, self._master)
        elif started.stdin is not None and self.feeds_input:
            nursery.start_soon(self._feed, started.stdin)

    async def _pump_all(self, done: trio.Event) -> None:
        out, err = self._sinks
        started = self.started
        async with trio.open_nursery() as pumps:
            if self._master is not None:
                pumps.start_soon(self._pump, self._master, out, "stdout")
            else:
                assert started.stdout is not None
                assert started.stderr is not None
                pumps.start_soon(self._pump, started.stdout, out, "stdout")
                pumps.start_soon(self._pump, started.stderr, err, "stderr")
        done.set()

    async def _pump(self, source: int, sink: FanOut, stream: str) -> None:
        def seen(data: bytes) -> bytes:
            data = self._within_limit(data)
            if self.log is not None:
                self.log.write(stream, data)
            return data

        await copy_output(source, sink, seen, close=source != self._master)

    def _within_limit(self, data: bytes) -> bytes:
        """Count *data*; return the part that the limit lets through, and kill at the limit."""
        room = math.inf if self.spec.limits.output is None else self.spec.limits.output
        room -= self._output
        self._output += len(data)
        if len(data) <= room:
            return data
        if not self.outcome.output_exceeded:
            self.outcome.output_exceeded = True
            self.kill()
        return data[: max(int(room), 0)]

    async def _feed(self, stdin: int) -> None:
        with self._input_scope:
            try:
                await copy_input(0, stdin)
            finally:
                self._close_input()

    def _close_input(self) -> None:
        stdin, self.started.stdin = self.started.stdin, None
        if stdin is not None:
            os.close(stdin)

    async def _type(self, master: int) -> None:
        keys = DetachKeys()
        with self._input_scope:
            await copy_input(0, master, keys)
        if keys.detached and self.link is not None:
            self.link.release(0)

    async def _follow_client(self, session: ClientSession) -> None:
        await session.follow(self.signal, self._resize)
        self.detach()

    def _let_client_go(self) -> None:
        """Have nobody wait for what is still to be done: the loop's end, the container's removal.

        Its streams end here, too: who reads them to their end waits for the last holder, and the
        kernel closes a process's files after it has taken its memory apart.
        """
        if self.hooks.delivered(self.outcome) and self.link is not None:
            self.detach()
            self.link.release(self.outcome.exit_code)

    def detach(self) -> None:
        """Let go of the client's descriptors: it is gone, or the user left the terminal."""
        self._input_scope.cancel()
        for sink in self._sinks:
            sink.detach()
        null_streams()

    def _resize(self) -> None:
        if self._master is not None:
            copy_window_size(0, self._master)

    async def _receive_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for _ in signals:
                await self.stop(self.spec.stop_signal, self.spec.stop_timeout)

    async def _watch_guard(self) -> None:
        await trio.lowlevel.wait_readable(self.started.guard_pidfd)
        self._guard_gone.set()
        if not self._is_over and self.outcome.error is None:
            self.outcome.error = SbxError(
                "the overlay server ended unexpectedly", detail="the container was killed"
            )
        self.kill()

    async def _time_out(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.outcome.timed_out = True
        await self.stop(self.spec.stop_signal, min(self.spec.stop_timeout, 2.0))

    async def _answer(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if "attach" in request:
            return await self._attach(peer, feed=bool(request["attach"].get("stdin")))
        if "resize" in request and self._master is not None:
            set_window_size(self._master, *request["resize"])
            return {"ok": True}
        if "signal" in request:
            self.signal(int(request["signal"]))
            return {"ok": True}
        if "stop" in request:
            wanted = request["stop"]
            await self.stop(int(wanted["signal"]), float(wanted["timeout"]))
            return {"ok": True}
        if "wait" in request:
            await self.ended.wait()
            return {"exit_code": self.outcome.exit_code}
        if "denials" in request:
            counted = self._denials.summary() if self._denials is not None else ()
            return {"denials": to_json(counted)}
        return self.hooks.request(request) or {"error": "unknown request"}

    async def _attach(self, peer: Peer, *, feed: bool) -> dict[str, Any]:
        """Share the container's streams with another client until one of both is gone."""
        if len(peer.descriptors) != 3:
            return {"error": "three descriptors are needed"}
        stdin, *outputs = peer.descriptors
        sinks = [Sink(descriptor) for descriptor in outputs]
        keys = DetachKeys()
        for fan_out, sink in zip(self._sinks, sinks, strict=True):
            fan_out.add(sink)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._leave_with, peer, nursery.cancel_scope)
                if feed:
                    nursery.start_soon(self._feed_from, stdin, keys, nursery.cancel_scope)
                await self._delivered.wait()
                nursery.cancel_scope.cancel()
        finally:
            for fan_out, sink in zip(self._sinks, sinks, strict=True):
                fan_out.remove(sink)
        return {"detached": True} if keys.detached else {"exit_code": self.outcome.exit_code}

    async def _leave_with(self, peer: Peer, scope: trio.CancelScope) -> None:
        await peer.gone()
        scope.cancel()

    async def _feed_from(self, stdin: int, keys: DetachKeys, scope: trio.CancelScope) -> None:
        if self._master is not None:
            await copy_input(stdin, self._master, keys)
            if keys.detached:
                scope.cancel()
        elif self.started.stdin is not None:
            await copy_input(stdin, self.started.stdin)
            if self.input_once:
                self._close_input()

    def signal(self, number: int) -> None:
        """Send a signal to the container's pid 1."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.started.pidfd, number)

    def kill(self) -> None:
        """End every process of the container: killing its pid 1 does (pid_namespaces(7))."""
        self.signal(signal.SIGKILL)

    async def stop(self, number: int, seconds: float) -> None:
        """Send *number*; kill what is still there after *seconds* (negative: never)."""
        self.signal(number)
        with trio.move_on_after(seconds if seconds >= 0 else math.inf):
            await self.ended.wait()
            return
        self.kill()
        await self.ended.wait()

    async def _wait_ended(self) -> None:
        code = await self._wait_exit_code()
        self._is_over = True
        if self.outcome.error is None:
            self.outcome.exit_code = TIMED_OUT if self.outcome.timed_out else code
        self._input_scope.cancel()
        # The network program lives in the guard's pid namespace, and the guard can't end before
        # all in it are reaped.
        self.hooks.over()
        if self.started.guard is not None:
            await self._end_guard()
        if self._denials is not None:
            self.outcome.denials = self._denials.summary()
        self.hooks.ended(self.outcome)
        self.ended.set()

    async def _wait_exit_code(self) -> int:
        """Return the exit code when nothing of the container runs any more."""
        farewell = self.started.farewell
        if farewell is not None and not self.hooks.changes_wanted:
            await trio.lowlevel.wait_readable(farewell)
            if said := os.read(farewell, 1):
                return said[0]
        return await self._reap_init()

    async def _reap_init(self) -> int:
        await trio.lowlevel.wait_readable(self.started.pidfd)
        self._reaped = True
        return _reap(self.started.pidfd)

    async def _end_guard(self) -> None:
        """Wait until all of the overlay is on disk, if anybody wants it; have the guard end."""
        self.started.resources.close()
        if self.hooks.changes_wanted:
            with trio.move_on_after(_UNMOUNT_SECONDS):
                await self._guard_gone.wait()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.started.guard_pidfd, signal.SIGKILL)

    async def _reap_all(self) -> None:
        """Wait for the end of pid 1 and the guard: taking their memory apart takes a while."""
        if not self._reaped:
            await self._reap_init()
        if self.started.guard is not None:
            with trio.move_on_after(_UNMOUNT_SECONDS):
                await self._guard_gone.wait()
                os.waitpid(self.started.guard, 0)


def _reap(pidfd: int) -> int:
    """Return the exit code of our child, as a shell would show it."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None:
        return 125
    if result.si_code == os.CLD_EXITED:
        return result.si_status
    return 128 + result.si_status

"""`sbx run`: from a spec to a container that has ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from sandbox.engine import spare
from sandbox.engine.context import Context
from sandbox.engine.enforcement import enforced
from sandbox.engine.live import LiveContainer
from sandbox.engine.preparation import Preparation, Step
from sandbox.engine.removal import delete, discard, throw_away
from sandbox.errors import SbxError
from sandbox.linux.processes import ProcessRef, own_pid
from sandbox.linux.syscalls import set_name
from sandbox.paths import make_private
from sandbox.spec import ContainerSpec, to_json
from sandbox.state import Container, Containers, Status
from sandbox.supervisor.start import Started

if TYPE_CHECKING:
    from sandbox.supervisor.supervise import Outcome

# How long the supervisor of a container that has ended may still deliver output.
_LAST_SECONDS = 10.0


def run(
    spec: ContainerSpec,
    context: Context,
    *,
    recorded: Callable[[], None] = lambda: None,
    step: Step | None = None,
) -> int:
    """Run a container and stay with it; return its exit code.

    This process becomes the supervisor. A detached container's id is printed and its client let go
    as soon as the command runs, and 0 returned to it. *recorded* is called when the container is on
    disk, before anything is forked. Raises SbxError; nothing is left behind then.
    """
    context.stay()
    context.enter_storage()
    with ExitStack() as stack:
        containers = Containers(context.paths)
        status = Status(supervisor=ProcessRef.of(own_pid()))
        directory = containers.create(spec, status)
        recorded()
        try:
            preparation = Preparation(spec, context, stack, step)
            started = preparation.start(preparation.plan(directory), directory)
        except BaseException:
            discard(containers, directory, spec)
            raise
        return Run(preparation, started, directory, status).carry_out()


def start_again(
    container_id: str,
    context: Context,
    on_running: Callable[[], None] = lambda: None,
    *,
    attach: bool,
    feed: bool = False,
) -> int:
    """Run a container that was created, or has ended, on what it wrote; return its exit code.

    As `run`, but what fails is kept in its status. With *attach* its output is the client's, with
    *feed* its input as well. Raises Conflict when it runs.
    """
    context.enter_storage()
    with ExitStack() as stack:
        containers = Containers(context.paths)
        last = containers.load(container_id)
        if not last.running and last.status.supervisor is not None:
            # What it does last is to remove its socket.
            last.status.supervisor.wait(_LAST_SECONDS)
        before = containers.claim(container_id, ProcessRef.of(own_pid()))
        try:
            spec = structs.replace(before.spec, detach=not attach)
            preparation = Preparation(spec, context, stack)
            plan = preparation.plan(before.directory)
            started = preparation.start(plan, before.directory)
        except BaseException as err:
            _put_back(containers, before, err)
            raise
        again = Again(before, on_running, feed)
        status = containers.read_status(before.directory)
        return Run(preparation, started, before.directory, status, again=again).carry_out()


class Again(Struct, frozen=True):
    """A container that is started, not made."""

    before: Container  # as it was until now
    on_running: Callable[[], None]
    feed: bool


def _put_back(containers: Containers, before: Container, err: BaseException) -> None:
    """It did not run: leave what was there before, and why."""
    message = err.message if isinstance(err, SbxError) else type(err).__name__
    code = getattr(err, "exit_code", SbxError.exit_code)
    status = structs.replace(before.status, error=message, exit_code=code)
    containers.write_status(before.directory, status)


class Run:
    """A container from the point where its init waits for the word to go."""

    def __init__(
        self,
        preparation: Preparation,
        started: Started,
        directory: Path,
        status: Status,
        again: Again | None = None,
        *,
        begun: bool = False,
    ) -> None:
        self.spec = preparation.spec
        self.context = preparation.context
        self.containers = Containers(self.context.paths)
        self.preparation = preparation
        self.started = started
        self.directory = directory
        self.status = status
        self.begun = begun
        self.again = again
        self._live: LiveContainer | None = None
        self._ran = False
        self._told = False  # the user knows what ended it

    def carry_out(self) -> int:
        """Supervise it to its end; return the exit code. Raises SbxError when it never ran."""
        set_name("sbx-supervisor")
        try:
            outcome = self._supervise()
        except BaseException as err:
            self._undo(err)
            raise
        if outcome.error is not None and not self._ran:
            self._undo(outcome.error)
            raise outcome.error
        if outcome.error is not None and not self._told:
            print(outcome.error.describe(), file=sys.stderr)
        return outcome.exit_code

    def _undo(self, err: BaseException) -> None:
        if self.again is not None:
            _put_back(self.containers, self.again.before, err)
        else:
            # It never ran: as with `docker run` there is nothing to look at afterwards.
            discard(self.containers, self.directory, self.spec)

    def _supervise(self) -> Outcome:
        # Imported here: the container's init is at work meanwhile, on another processor.
        import trio

        from sandbox.supervisor.log_file import LogFile
        from sandbox.supervisor.supervise import Hooks, Supervision

        spec, preparation = self.spec, self.preparation
        log = LogFile(self.directory / "log.jsonl", spec.log_max_size, spec.log_max_files)
        preparation.stack.callback(log.close)
        hooks = Hooks(
            ready=preparation.wait_connected,
            going=self._going,
            running=self._running,
            over=preparation.network.close,
            ended=self._ended,
            delivered=self._delivered,
            control=control_path(self.context, spec.id),
            request=lambda request: self._live.answer(request) if self._live else None,
            explain=preparation.explain,
            changes_wanted=not spec.remove or preparation.step is not None,
        )
        supervision = Supervision(spec, self.started, self.context.link, log, hooks)
        supervision.input_once = not (self.again.before.spec if self.again else spec).detach
        supervision.feeds_input = self.again is None or self.again.feed
        if self.begun:
            supervision.begun = True
            self._going()
        return trio.run(supervision.run, restrict_keyboard_interrupt_to_checkpoints=True)

    def _going(self) -> None:
        cgroup = self.preparation.cgroup
        self._set_status(
            phase="running",
            init=self.started.init,
            cgroup=cgroup.path if cgroup else "",
            started_at=time.time(),
            ports=self.preparation.network.ports,
            warnings=tuple(self.preparation.warnings),
            enforced=enforced(self.spec.limits, self.preparation.enforcement),
            not_enforced=self.preparation.enforcement.missing,
        )
        if self.again is None:
            spare.wish(self.spec, self.context)

    def _running(self) -> None:
        self._ran = True
        container = Container(self.directory, self.spec, self.status)
        cgroup = self.preparation.cgroup
        self._live = LiveContainer(self.containers, container, cgroup, self._set_status)
        if self.again is not None:
            self.again.on_running()
            return
        if self.spec.detach:
            print(self.spec.id, flush=True)
            if self.context.link is not None:
                self.context.link.release(0)

    def _ended(self, outcome: Outcome) -> None:
        if not self._ran:
            return
        error = outcome.error.message if outcome.error else ""
        if outcome.output_exceeded:
            error = f"killed: more than {self.spec.limits.output} bytes of output"
            print(f"sbx: {error}", file=sys.stderr)
        if outcome.timed_out:
            error = f"killed: it ran longer than {self.spec.limits.timeout:g} seconds"
            print(f"sbx: {error}", file=sys.stderr)
        cgroup = self.preparation.cgroup
        oom_killed = cgroup is not None and cgroup.oom_kills() > 0
        if oom_killed:
            print("sbx: the container ran out of memory (--memory)", file=sys.stderr)
        if self.context.link is not None:
            self.context.link.result = {
                "timed_out": outcome.timed_out,
                "oom_killed": oom_killed,
                "output_exceeded": outcome.output_exceeded,
                "denials": to_json(outcome.denials),
            }
        if step := self.preparation.step:
            for name in ("upper", "work"):
                (self.directory / name).rename(step.changes / name)
        if self.spec.remove:
            trash = throw_away(self.containers, self.directory, self.spec)
            if trash is not None:
                self.preparation.stack.callback(delete, trash)
            return
        self._set_status(
            phase="exited",
            paused=False,
            finished_at=time.time(),
            exit_code=outcome.exit_code,
            oom_killed=oom_killed,
            timed_out=outcome.timed_out,
            denials=outcome.denials,
            error=error,
        )

    def _delivered(self, outcome: Outcome) -> bool:
        if not self._ran or self.again is not None or self.preparation.step is not None:
            return False  # the command has more to say, or to do
        if outcome.error is not None:
            print(outcome.error.describe(), file=sys.stderr)
            self._told = True
        with suppress(OSError):  # nobody listens
            sys.stdout.flush()
            sys.stderr.flush()
        return True

    def _set_status(self, **changes: Any) -> Status:
        self.status = structs.replace(self.status, **changes)
        self.containers.write_status(self.directory, self.status)
        return self.status


def control_path(context: Context, container_id: str) -> Path:
    """Return the supervisor's socket for a container: short, sun_path holds 107 bytes (unix(7))."""
    path = make_private(context.paths.runtime) / f"c-{container_id[:24]}"
    if len(os.fsencode(path)) > 107:
        raise SbxError(
            f"{context.paths.runtime} is too long a path for a socket",
            hint="set XDG_RUNTIME_DIR to a shorter one",
        )
    return path

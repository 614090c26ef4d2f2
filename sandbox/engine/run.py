"""`sbx run`: from a spec to a container that has ended."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_overlay.config import Config
from sandbox.container.build_plan import container_plan
from sandbox.container.plan import ContainerPlan, TextFile
from sandbox.engine.context import Context
from sandbox.engine.enforcement import enforced
from sandbox.engine.filters import explainer_for, filter_for
from sandbox.engine.ids import maps_for
from sandbox.engine.notices import say_once
from sandbox.engine.removal import discard
from sandbox.errors import InvalidSpec, SbxError
from sandbox.linux import cgroups, idmap, rlimits
from sandbox.linux.processes import ProcessRef
from sandbox.linux.syscalls import set_name
from sandbox.network import connection as connections
from sandbox.network.hosts import hosts
from sandbox.network.resolver import resolv_conf
from sandbox.overlay import drivers
from sandbox.paths import make_private
from sandbox.spec import ContainerSpec, to_json
from sandbox.state import Container, Containers, Status
from sandbox.supervisor.start import Started, start

if TYPE_CHECKING:
    from sandbox.supervisor.supervise import Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step of a build: what it has beyond a container, and that its changes are wanted."""

    changes: Path  # a directory that `upper` and `work` are moved to when all is over
    files: tuple[TextFile, ...] = ()
    env: tuple[tuple[str, str], ...] = ()  # secrets among it, so not in the spec on disk


def run(
    spec: ContainerSpec,
    context: Context,
    on_started: Callable[[Container], None] | None = None,
    *,
    recorded: Callable[[], None] = lambda: None,
    step: Step | None = None,
) -> int:
    """Run a container and stay with it; return its exit code.

    This process becomes the supervisor. A detached container's client is let go as soon as the
    command runs, and 0 returned to it. *on_started* is called at that moment, with the streams
    still the client's, and *recorded* before anything is forked, when the container is on disk.
    Raises SbxError; nothing is left behind then.
    """
    context.enter_storage()
    with ExitStack() as stack:
        run = _Run(spec, context, stack, on_started, recorded, step)
        return run.carry_out()


class _Run:
    """One run: what is acquired on the way is released by the stack, in reverse."""

    def __init__(
        self,
        spec: ContainerSpec,
        context: Context,
        stack: ExitStack,
        on_started: Callable[[Container], None] | None,
        recorded: Callable[[], None],
        step: Step | None,
    ) -> None:
        self.spec = spec
        self.step = step
        self.context = context
        self.stack = stack
        self.on_started = on_started
        self.recorded = recorded
        self.containers = Containers(context.paths)
        self.warnings: list[str] = []
        self.network = connections.Connection()
        self.cgroup: cgroups.Cgroup | None = None
        self._cpus: frozenset[int] | None = None
        self._enforcement = cgroups.Enforcement("")

    def carry_out(self) -> int:
        self.status = Status(supervisor=ProcessRef.of(_own_pid()))
        self.directory = self.containers.create(self.spec, self.status)
        self.recorded()
        try:
            started = self._start()
            outcome = self._supervise(started)
        except BaseException:
            # It never ran: as with `docker run` there is nothing to look at afterwards.
            discard(self.containers, self.directory, self.spec)
            raise
        if outcome.error is not None and not self._ran:
            discard(self.containers, self.directory, self.spec)
            raise outcome.error
        if outcome.error is not None:
            print(outcome.error.describe(), file=sys.stderr)
        return outcome.exit_code

    _ran = False

    def _start(self) -> Started:
        spec, context = self.spec, self.context
        uid_map, gid_map, warnings = maps_for(spec, context)
        self._warn(*warnings)
        single_uid = idmap.total(uid_map) == 1
        upper, work = drivers.make_directories(self.directory)
        filters = filter_for(spec, context, single_uid=single_uid)
        self._explain = explainer_for(spec, context, single_uid=single_uid)
        if filters.emulates:
            say_once(
                context,
                "single-uid",
                "this user has no subordinate ids (sbx doctor): in containers, changes of owner and"
                " user succeed without effect",
            )
        plan = container_plan(
            spec,
            upper=upper,
            work=work,
            uid_map=uid_map,
            gid_map=gid_map,
            gid_span=idmap.span(gid_map, idmap.read_map("/proc/self/gid_map")),
            filters=filters,
            files=self._files(),
            volumes=str(context.paths.volumes),
        )
        if self.step is not None:
            plan = _with_step(plan, self.step)
        self._make_volumes()
        if context.debug:
            print("\n".join(f"sbx: {line}" for line in plan.describe()), file=sys.stderr)
        plan = self._limit(plan, single_uid=single_uid)
        config = drivers.fuse_config(spec, upper, work, single_uid=single_uid)
        return self._fork(plan, config)

    def _fork(self, plan: ContainerPlan, config: Config) -> Started:
        starter = connections.prepare(self.spec.network)
        if starter is not None:
            self.stack.callback(starter.close)
        started = start(plan, config, self.directory, self.cgroup, stdin=self.spec.interactive)
        self.stack.callback(started.resources.close)
        if self._cpus is not None:
            os.sched_setaffinity(started.init.pid, self._cpus)
        set_name("sbx-supervisor")
        try:
            user, net = started.namespaces
            self.network = connections.start(
                self.spec.network,
                user,
                net,
                starter=starter,
                ports=self.spec.ports,
                capabilities=self.spec.security.capabilities,
            )
        except BaseException:
            started.abandon()
            raise
        self.stack.callback(self.network.close)
        self._warn(*self.network.notes)
        return started

    def _supervise(self, started: Started) -> Outcome:
        # Imported here: the container's init is at work meanwhile, on another processor.
        import trio

        from sandbox.supervisor.log_file import LogFile
        from sandbox.supervisor.supervise import Hooks, Supervision

        spec = self.spec
        log = LogFile(self.directory / "log.jsonl", spec.log_max_size, spec.log_max_files)
        self.stack.callback(log.close)
        hooks = Hooks(
            ready=self.network.wait_ready,
            running=lambda: self._running(started),
            over=self.network.close,
            ended=self._ended,
            control=control_path(self.context, spec.id),
            explain=self._explain,
            changes_wanted=not spec.remove or self.step is not None,
        )
        supervision = Supervision(spec, started, self.context.link, log, hooks)
        return trio.run(supervision.run, restrict_keyboard_interrupt_to_checkpoints=True)

    def _running(self, started: Started) -> None:
        self._ran = True
        self._set_status(
            phase="running",
            init=started.init,
            cgroup=self.cgroup.path if self.cgroup else "",
            started_at=time.time(),
            ports=self.network.ports,
            warnings=tuple(self.warnings),
            enforced=enforced(self.spec.limits, self._enforcement),
            not_enforced=self._enforcement.missing,
        )
        if self.on_started is not None:
            self.on_started(Container(self.directory, self.spec, self.status))
        if self.spec.detach and self.context.link is not None:
            sys.stdout.flush()
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
        oom_killed = self.cgroup is not None and self.cgroup.oom_kills() > 0
        if oom_killed:
            print("sbx: the container ran out of memory (--memory)", file=sys.stderr)
        if self.context.link is not None:
            self.context.link.result = {
                "timed_out": outcome.timed_out,
                "oom_killed": oom_killed,
                "output_exceeded": outcome.output_exceeded,
                "denials": to_json(outcome.denials),
            }
        if self.step is not None:
            for name in ("upper", "work"):
                (self.directory / name).rename(self.step.changes / name)
        if self.spec.remove:
            discard(self.containers, self.directory, self.spec)
            return
        self._set_status(
            phase="exited",
            finished_at=time.time(),
            exit_code=outcome.exit_code,
            oom_killed=oom_killed,
            timed_out=outcome.timed_out,
            denials=outcome.denials,
            error=error,
        )

    def _set_status(self, **changes: Any) -> None:
        self.status = dataclasses.replace(self.status, **changes)
        self.containers.write_status(self.directory, self.status)

    def _files(self) -> dict[str, str]:
        spec = self.spec
        hostname = spec.hostname or spec.id[:12]
        forwarder = spec.network == "private" and connections.has_forwarder()
        return {
            "/etc/hostname": f"{hostname}\n",
            "/etc/hosts": hosts(hostname, spec.network),
            "/etc/resolv.conf": resolv_conf(spec.network, forwarder=forwarder),
        }

    def _limit(self, plan: ContainerPlan, *, single_uid: bool) -> ContainerPlan:
        """Make the cgroup; return *plan* with the rlimits that stand in for what it lacks."""
        # With one id mapped, or without the capability, no process changes its uid: nothing has
        # privileges of its own with no_new_privs.
        uids_fixed = single_uid or "CAP_SETUID" not in plan.process.capabilities
        prepared = cgroups.prepare(
            self.spec.id,
            self.spec.limits,
            self.spec.cgroups,
            uids_fixed=uids_fixed,
            environ=self.context.environ,
        )
        self.cgroup = prepared.cgroup
        if self.cgroup is not None:
            self.stack.callback(self.cgroup.remove)
        self._warn(*prepared.warnings)
        if self.context.debug:
            lines = prepared.enforcement.describe()
            print("\n".join(f"sbx: {line}" for line in lines), file=sys.stderr)
        self._cpus = prepared.cpus
        self._enforcement = prepared.enforcement
        ulimits = rlimits.tighten(plan.process.ulimits, prepared.ulimits)
        process = replace(plan.process, ulimits=ulimits)
        return replace(plan, process=process, processes=prepared.processes)

    def _make_volumes(self) -> None:
        for mount in self.spec.mounts:
            if mount.type == "volume":
                (make_private(self.context.paths.volumes) / mount.source / "_data").mkdir(
                    parents=True, exist_ok=True
                )
            elif mount.type == "bind" and not os.path.lexists(mount.source):
                raise InvalidSpec(f"no such file or directory: {mount.source}")

    def _warn(self, *warnings: str) -> None:
        for warning in warnings:
            self.warnings.append(warning)
            print(f"sbx: warning: {warning}", file=sys.stderr)


def _with_step(plan: ContainerPlan, step: Step) -> ContainerPlan:
    env = dict(plan.process.env) | dict(step.env)
    process = replace(plan.process, env=tuple(env.items()))
    return replace(plan, steps=(*plan.steps, *step.files), process=process)


def control_path(context: Context, container_id: str) -> Path:
    """Return the supervisor's socket for a container: short, sun_path holds 107 bytes (unix(7))."""
    path = make_private(context.paths.runtime) / f"c-{container_id[:24]}"
    if len(os.fsencode(path)) > 107:
        raise SbxError(
            f"{context.paths.runtime} is too long a path for a socket",
            hint="set XDG_RUNTIME_DIR to a shorter one",
        )
    return path


def _own_pid() -> int:
    """The own pid as the host's /proc shows it."""
    return int(os.readlink("/proc/self"))

"""From a spec to a container that lacks nothing but its command."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sandbox.container.build_plan import container_plan
from sandbox.container.plan import ContainerPlan, TextFile
from sandbox.engine.context import Context
from sandbox.engine.filters import explainer_for, filter_for
from sandbox.engine.ids import maps_for
from sandbox.engine.notices import say_once
from sandbox.errors import InvalidSpec, harmless
from sandbox.linux import cgroups, idmap, rlimits
from sandbox.network import connection as connections
from sandbox.network.hosts import hosts
from sandbox.network.process import Starter
from sandbox.network.resolver import resolv_conf
from sandbox.overlay import drivers
from sandbox.paths import make_private
from sandbox.spec import ContainerSpec
from sandbox.supervisor.start import Started, start


class Step(Struct, frozen=True):
    """A step of a build: what it has beyond a container, and that its changes are wanted."""

    changes: Path  # a directory that `upper` and `work` are moved to when all is over
    files: tuple[TextFile, ...] = ()
    env: tuple[tuple[str, str], ...] = ()  # secrets among it, so not in the spec on disk


class Preparation:
    """What is acquired on the way is released by *stack*, in reverse."""

    def __init__(
        self, spec: ContainerSpec, context: Context, stack: ExitStack, step: Step | None = None
    ) -> None:
        self.spec = spec
        self.step = step
        self.context = context
        self.stack = stack
        self.warnings: list[str] = []
        self.network = connections.Connection()
        self.cgroup: cgroups.Cgroup | None = None
        self.enforcement = cgroups.Enforcement("")
        self._cpus: frozenset[int] | None = None
        self._single_uid = False
        self._first_ids = (0, 0)
        self._connected = False

    def plan(self, directory: Path) -> ContainerPlan:
        """Return the plan of a container whose state is in *directory*; nothing is made yet."""
        spec, context = self.spec, self.context
        uid_map, gid_map, warnings = maps_for(spec, context, directory)
        self.warn(*warnings)
        self._single_uid = single_uid = idmap.total(uid_map) == 1
        self._first_ids = idmap.first(uid_map), idmap.first(gid_map)
        # Who is not root expects to be refused.
        emulate = single_uid and self._first_ids[0] == 0
        filters = filter_for(spec, context, single_uid=emulate)
        self.explain = explainer_for(spec, context, single_uid=emulate)
        if single_uid and not emulate and spec.userns != "keep-id":
            say_once(
                context,
                "single-user",
                f"this user has no subordinate ids (sbx doctor): {spec.user} is the only user in"
                " this container, and all files there are its own",
            )
        if filters.emulates:
            say_once(
                context,
                "single-uid",
                "this user has no subordinate ids (sbx doctor): in containers, changes of owner and"
                " user succeed without effect",
            )
        upper, work = drivers.directories(directory)
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
        return plan if self.step is None else _with_step(plan, self.step)

    def start(self, plan: ContainerPlan, directory: Path) -> Started:
        """Start the container of *plan*: its init will wait for the word to go."""
        drivers.make_directories(directory)
        self._make_volumes()
        if self.context.debug:
            print("\n".join(f"sbx: {line}" for line in plan.describe()), file=sys.stderr)
        plan = self._limit(plan)
        starter = connections.prepare(self.spec.network)
        if starter is not None:
            self.stack.callback(starter.close)
        upper, work = drivers.directories(directory)
        config = drivers.fuse_config(
            self.spec, upper, work, only_ids=self._first_ids if self._single_uid else None
        )
        started = start(plan, config, directory, self.cgroup, stdin=self.spec.interactive)
        self.stack.callback(started.resources.close)
        if self._cpus is not None:
            os.sched_setaffinity(started.init.pid, self._cpus)
        try:
            self._connect(started, starter)
        except BaseException:
            started.abandon()
            raise
        return started

    def _connect(self, started: Started, starter: Starter | None) -> None:
        user, net = started.namespaces
        self.network = connections.start(
            self.spec.network,
            user,
            net,
            starter=starter,
            ports=self.spec.ports,
            capabilities=self.spec.security.capabilities,
        )
        self.stack.callback(self.network.close)
        self.warn(*self.network.notes)

    def wait_connected(self) -> None:
        """Return when the network is there; at once from the second call on."""
        if not self._connected:
            self.network.wait_ready()
            self._connected = True

    def warn(self, *warnings: str) -> None:
        """Tell the user, and `inspect` later."""
        for warning in warnings:
            self.warnings.append(warning)
            print(f"sbx: warning: {harmless(warning)}", file=sys.stderr)

    def _files(self) -> dict[str, str]:
        spec = self.spec
        hostname = spec.hostname or spec.id[:12]
        forwarder = spec.network == "private" and connections.has_forwarder()
        return {
            "/etc/hostname": f"{hostname}\n",
            "/etc/hosts": hosts(hostname, spec.network),
            "/etc/resolv.conf": resolv_conf(spec.network, forwarder=forwarder),
        }

    def _limit(self, plan: ContainerPlan) -> ContainerPlan:
        """Make the cgroup; return *plan* with the rlimits that stand in for what it lacks."""
        # With one id mapped, or without the capability, no process changes its uid: nothing has
        # privileges of its own with no_new_privs.
        uids_fixed = self._single_uid or "CAP_SETUID" not in plan.process.capabilities
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
        self.warn(*prepared.warnings)
        if self.context.debug:
            lines = prepared.enforcement.describe()
            print("\n".join(f"sbx: {line}" for line in lines), file=sys.stderr)
        self._cpus = prepared.cpus
        self.enforcement = prepared.enforcement
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


def _with_step(plan: ContainerPlan, step: Step) -> ContainerPlan:
    env = dict(plan.process.env) | dict(step.env)
    process = replace(plan.process, env=tuple(env.items()))
    return replace(plan, steps=(*plan.steps, *step.files), process=process)

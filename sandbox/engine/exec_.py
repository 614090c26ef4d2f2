"""`sbx exec`: another process in a running container."""

from __future__ import annotations

import sys

from msgspec import Struct, structs

from sandbox.container.build_plan import process_plan
from sandbox.container.plan import ProcessPlan
from sandbox.engine.context import Context
from sandbox.engine.filters import filter_for
from sandbox.errors import Conflict
from sandbox.linux import capabilities, cgroups, idmap, rlimits
from sandbox.linux.cgroups import Cgroup
from sandbox.spec import Limits
from sandbox.state import Container
from sandbox.supervisor.join import Joined, join
from sandbox.supervisor.start import Started


class ExecOptions(Struct, frozen=True):
    """What was asked for; the rest is as in the container's own command."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    privileged: bool = False


def exec_(container: Container, options: ExecOptions, context: Context) -> int:
    """Run a command in *container*; return its exit code (0 when detached).

    Raises Conflict when the container does not run, SbxError when the command can't be started.
    """
    status = container.status
    if not container.running or status.init is None or status.supervisor is None:
        raise Conflict(f"container {container.spec.name} is not running")
    if status.paused:
        raise Conflict(
            f"container {container.spec.name} is paused", hint=f"sbx unpause {container.spec.name}"
        )
    if context.in_storage and not context.shares_storage_with(status.supervisor):
        # The launcher is younger than the container and lives in a namespace beside it.
        context.run_cold()
    context.enter_storage(status.supervisor)
    plan = _plan(container, options, context)
    cgroup = Cgroup(status.cgroup) if status.cgroup else None
    joined = join(status.init, plan, cgroup, stdin=options.interactive)
    return _supervise(container, options, context, joined)


def _plan(container: Container, options: ExecOptions, context: Context) -> ProcessPlan:
    spec = container.spec
    assert container.status.init is not None
    maps = [
        idmap.read_map(f"/proc/{container.status.init.pid}/{kind}")
        for kind in ("uid_map", "gid_map")
    ]
    single_uid = idmap.total(maps[0]) == 1
    first_ids = idmap.first(maps[0]), idmap.first(maps[1])
    spec = structs.replace(
        spec, security=structs.replace(spec.security, explain=False), limits=spec.limits
    )
    plan = process_plan(
        spec,
        filter_for(spec, context, single_uid=single_uid and first_ids[0] == 0),
        single_uid=single_uid,
    )
    ulimits = plan.ulimits
    if not container.status.cgroup:
        ulimits = rlimits.tighten(ulimits, cgroups.held_by_rlimits(spec.limits, spec.cgroups))
    environment = {**dict(spec.env), **dict(options.env)}
    if options.tty:
        environment.setdefault("TERM", "xterm")
    return structs.replace(
        plan,
        first_ids=first_ids,
        argv=options.argv,
        env=tuple(environment.items()),
        cwd=options.cwd or spec.cwd,
        user=options.user or spec.user,
        tty=options.tty,
        init=False,
        create_cwd=False,
        # A Landlock domain of its own would keep a debugger from the container's processes
        # (landlock(7), "Ptrace restrictions"); containers that can do nothing anyway keep it.
        landlock=plan.landlock and not spec.security.capabilities,
        capabilities=capabilities.ALL if options.privileged else plan.capabilities,
        ulimits=ulimits,
    )


def _supervise(container: Container, options: ExecOptions, context: Context, joined: Joined) -> int:
    import trio

    from sandbox.supervisor.supervise import Hooks, Supervision

    spec = structs.replace(
        container.spec,
        tty=options.tty,
        interactive=options.interactive,
        detach=options.detach,
        limits=Limits(),
    )
    pipes = joined.pipes
    started = Started(
        channel=joined.channel,
        init=container.status.init,  # type: ignore[arg-type]
        pidfd=joined.pidfd,
        stdin=pipes.stdin if pipes else None,
        stdout=pipes.stdout if pipes else None,
        stderr=pipes.stderr if pipes else None,
    )

    def running() -> None:
        if options.detach and context.link is not None:
            sys.stdout.flush()
            context.link.release(0)

    hooks = Hooks(
        ready=lambda: None,
        running=running,
        over=lambda: None,
        ended=lambda _: None,
        control=None,
    )
    supervision = Supervision(spec, started, context.link, None, hooks)
    outcome = trio.run(supervision.run, restrict_keyboard_interrupt_to_checkpoints=True)
    if outcome.error is not None:
        raise outcome.error
    return outcome.exit_code

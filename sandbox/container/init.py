"""The container's init: from a fork of the supervisor to the command.

Two stages. The *outer* one enters the user namespace, waits for its maps, collects the host trees
that are to be bound (as the user, who may see them), makes the other namespaces and starts the
*inner* one, which is pid 1 of the container: it mounts, becomes the identity and executes.

    supervisor ── fork ──> outer ── clone3(CLONE_PARENT | CLONE_NEWPID) ──> inner (pid 1)

CLONE_PARENT makes the supervisor the parent of pid 1, so it gets the exit status itself and the
outer stage can leave.
"""

from __future__ import annotations

import os
import socket
from typing import NoReturn

from msgspec import Struct

from sandbox.container import assignment, mounting, process
from sandbox.container.channel import Channel
from sandbox.container.plan import ContainerPlan
from sandbox.container.reaper import run_below_reaper
from sandbox.linux import loopback, process_count
from sandbox.linux.clone import fork_sibling
from sandbox.linux.mount_api import attach
from sandbox.linux.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_REC,
    MS_SLAVE,
    mount,
    sethostname,
    unshare,
)
from sandbox.spec import from_json


class Endpoints(Struct, frozen=True):
    """What the init inherits from the supervisor."""

    channel: Channel
    overlay: socket.socket | None  # where the overlay server waits for the FUSE descriptor
    stdio: tuple[int, int, int] | None  # None with a terminal
    staging: str  # a directory of ours to attach the root to, for pivot_root
    farewell: int | None = None  # see `reaper`


def outer(plan: ContainerPlan, ends: Endpoints) -> NoReturn:
    """Run the outer stage in a freshly forked process; never returns."""
    try:
        unshare(CLONE_NEWUSER)
        ends.channel.send({"step": "userns"})
        ends.channel.expect("mapped")
        if plan.processes is not None:
            process_count.enter(plan.processes, plan.uid_map, plan.gid_map)
        unshare(plan.namespaces & ~CLONE_NEWPID | CLONE_NEWNS)
        mount(None, "/", None, MS_REC | MS_SLAVE)
        _send_namespaces(ends.channel)
        sources = mounting.collect_sources(plan.steps)
        # Kernel overlay: the mounter's credentials are those that open the layers later.
        root = mounting.mount_root(plan.root, lambda fd: _hand_over(ends, fd))
        # Opened here: a descriptor from the host's mount namespace is no target (move_mount(2)).
        staging = os.open(ends.staging, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        attach(root, staging)
        os.close(staging)
        if fork_sibling(CLONE_NEWPID) == 0:
            _inner(plan, ends, root, sources)
    except BaseException as err:
        ends.channel.report(err, "the container could not be set up")
        os._exit(125)
    os._exit(0)


def _send_namespaces(channel: Channel) -> None:
    """Give the supervisor the namespaces that the network program enters.

    It can't open them by itself: once pid 1 has changed its ids it is not dumpable, and
    /proc/PID/ns is closed to others (ptrace(2), "access mode checking").
    """
    fds = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "net")]
    channel.send({"step": "namespaces"}, (fds[0], fds[1]))
    for descriptor in fds:
        os.close(descriptor)


def _hand_over(ends: Endpoints, device: int) -> None:
    assert ends.overlay is not None
    socket.send_fds(ends.overlay, [b"fuse"], [device])


def _inner(
    plan: ContainerPlan, ends: Endpoints, root: int, sources: dict[str, list[int]]
) -> NoReturn:
    """Be pid 1 of the container; never returns."""
    try:
        ends.channel.send({"step": "hello"})
        os.setsid()
        uid, gid = mounting.first_ids()
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        texts = _set_up(plan, root, sources)
        slave = _attach_stdio(plan, ends)
        if ends.farewell is not None:
            run_below_reaper(ends.farewell)
        plan = _assigned(plan, ends, texts)
        process.execute(
            plan.process,
            listener=lambda fd: ends.channel.send({"step": "listening"}, (fd,)),
            slave=slave,
        )
    except BaseException as err:
        ends.channel.report(err, "the container could not be set up")
        os._exit(getattr(err, "exit_code", 125))
    os._exit(125)


def _set_up(plan: ContainerPlan, root: int, sources: dict[str, list[int]]) -> dict[str, int]:
    """Carry out the mounts; return the text files, open."""
    if plan.namespaces & CLONE_NEWNET:
        loopback.bring_up()
    sethostname(plan.hostname)
    mounter = mounting.Mounter(root, sources)
    steps = plan.steps
    proc = next((i for i, s in enumerate(steps) if s.target == "/proc"), -1)
    mounter.carry_out(steps[: proc + 1])
    _write_sysctls(plan, root)
    mounter.carry_out(steps[proc + 1 :])
    mounter.finish()
    mounting.enter_root(root)
    if plan.root.readonly:
        mounting.make_root_readonly()
    return mounter.texts


def _assigned(plan: ContainerPlan, ends: Endpoints, texts: dict[str, int]) -> ContainerPlan:
    """Wait for the word to go; return the plan with what came with it."""
    message, _, _ = ends.channel.wait_for("go", "rehearse")
    if message["step"] == "rehearse":
        assignment.rehearse(plan)
        process.rehearse(plan.process)
        message, _, _ = ends.channel.wait_for("go")
    if "assignment" in message:
        last = from_json(assignment.Assignment, message["assignment"])
        assignment.carry_out(last, texts)
        plan = last.applied(plan)
    for descriptor in texts.values():
        os.close(descriptor)
    return plan


def _write_sysctls(plan: ContainerPlan, root: int) -> None:
    """Set kernel parameters of the new namespaces, before /proc/sys becomes read-only."""
    for name, value in plan.sysctls:
        try:
            path = f"proc/sys/{name.replace('.', '/')}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
        except OSError:
            continue  # not in this kernel
        try:
            os.write(descriptor, value.encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _attach_stdio(plan: ContainerPlan, ends: Endpoints) -> int | None:
    """Set up standard streams and say "mounted"; return the pty's slave where there is one."""
    if ends.stdio is not None:
        for target, descriptor in enumerate(ends.stdio):
            os.dup2(descriptor, target)
        ends.channel.send({"step": "mounted"})
        return None
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave = process.open_terminal(root)
    process.take_terminal(slave)
    mounting.bind_console(root, slave)
    os.close(root)
    ends.channel.send({"step": "mounted"}, (master,))
    os.close(master)
    return slave

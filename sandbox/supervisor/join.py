"""Starting a process inside a running container: `exec`.

    command process ── fork ──> outer (joins the namespaces) ── CLONE_PARENT ──> the command

The joiner is not dumpable from the moment it can be seen inside, so that no process of the
container can trace it, read its memory or take its descriptors before it has executed the
command (CVE-2016-9962).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

from sandbox.container import process
from sandbox.container.channel import Channel
from sandbox.container.plan import ProcessPlan
from sandbox.errors import SbxError
from sandbox.linux import cgroups
from sandbox.linux.cgroups import Cgroup
from sandbox.linux.clone import fork_sibling
from sandbox.linux.descriptors import close_all_but, null_streams
from sandbox.linux.processes import ProcessRef, forget_command_line
from sandbox.linux.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    prctl,
    setns,
)
from sandbox.supervisor.start import Pipes, end, open_pipes

# How often, and after how many seconds each, a closed pid 1 is looked at again.
_TRIES = 200
_MOMENT = 0.01

_ALL = (
    CLONE_NEWUSER
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_NEWIPC
    | CLONE_NEWUTS
    | CLONE_NEWCGROUP
)


class Joined:
    """A process started in a container: what its supervisor keeps of it."""

    def __init__(self, channel: Channel, pid: int, pipes: Pipes | None) -> None:
        self.channel = channel
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.pipes = pipes


def join(init: ProcessRef, plan: ProcessPlan, cgroup: Cgroup | None, *, stdin: bool) -> Joined:
    """Start *plan* in the container whose pid 1 is *init*. Raises SbxError."""
    target = member(init)
    if target is None:
        raise SbxError("the container has ended meanwhile")
    ours, theirs = Channel.pair()
    pipes = None if plan.tty else open_pipes(stdin)
    sys.stdout.flush()
    sys.stderr.flush()
    outer = os.fork()
    if outer == 0:
        _be_outer(target, plan, theirs, pipes)
    theirs.close()
    os.close(target)
    for descriptor in pipes.theirs if pipes else ():
        os.close(descriptor)
    try:
        _, pid = ours.expect("hello")
        if cgroup is not None:
            cgroups.join(cgroup.path, pid)
        ours.send({"step": "go"})
    except BaseException:
        end(outer)
        raise
    os.waitpid(outer, 0)
    return Joined(ours, pid, pipes)


def member(init: ProcessRef) -> int | None:
    """Return a pidfd of a process whose namespaces can be joined; None when there is none left.

    A pid 1 of ours (--init) is closed to everybody, as its memory is the host's (ptrace(2), "access
    mode checking"): it stands for the command that it started, its first child. A command that is
    just being executed is closed for a moment as well.
    """
    for _ in range(_TRIES):
        pidfd = init.open()
        if pidfd is None or _is_open(init.pid):
            return pidfd
        os.close(pidfd)
        child = _pidfd_of_first_child(init)
        if child is not None:
            return child
        time.sleep(_MOMENT)
    return None


def _pidfd_of_first_child(init: ProcessRef) -> int | None:
    try:
        child = _first_child(init.pid)
        pidfd = ProcessRef.of(child).open()
        # Still its child: the pid was not used again meanwhile.
        if pidfd is not None and (_first_child(init.pid) != child or not init.alive()):
            os.close(pidfd)
            return None
    except (OSError, IndexError):
        return None
    return pidfd


def _is_open(pid: int) -> bool:
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return False
    return True


def _first_child(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


def _be_outer(target: int, plan: ProcessPlan, channel: Channel, pipes: Pipes | None) -> NoReturn:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        prctl(PR_SET_DUMPABLE, 0)
        forget_command_line()
        null_streams()
        close_all_but((0, 1, 2, target, channel.fileno(), *(pipes.theirs if pipes else ())))
        setns(target, _ALL)
        os.close(target)
        if fork_sibling() == 0:
            _be_command(plan, channel, pipes)
    except BaseException as err:
        channel.report(err, "cannot enter the container")
        os._exit(125)
    os._exit(0)


def _be_command(plan: ProcessPlan, channel: Channel, pipes: Pipes | None) -> NoReturn:
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        channel.send({"step": "hello"})
        os.setsid()
        os.setresgid(plan.first_ids[1], plan.first_ids[1], plan.first_ids[1])
        os.setresuid(plan.first_ids[0], plan.first_ids[0], plan.first_ids[0])
        prctl(PR_SET_DUMPABLE, 0)  # changing ids may have set it again
        slave = None
        channel.expect("go")
        if pipes is not None:
            for stream, descriptor in enumerate(pipes.theirs):
                os.dup2(descriptor, stream)
            channel.send({"step": "mounted"})
        else:
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            master, slave = process.open_terminal(root)
            os.close(root)
            process.take_terminal(slave)
            channel.send({"step": "mounted"}, (master,))
            os.close(master)
        # The supervisor has what it needs: as the container's own init does, wait for its word.
        channel.expect("go")
        process.execute(
            plan, listener=lambda fd: channel.send({"step": "listening"}, (fd,)), slave=slave
        )
    except BaseException as err:
        channel.report(err, "cannot enter the container")
        os._exit(getattr(err, "exit_code", 125))
    os._exit(125)

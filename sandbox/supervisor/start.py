"""Starting a container: the forks, the maps, the cgroup, the network, up to the command.

All forks happen here, in a process without threads and without an event loop. What follows
(waiting for the mounts, then for the container's end) is `supervise`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from msgspec import Struct, field

from fuse_overlay.config import Config
from sandbox.container.assignment import Assignment
from sandbox.container.channel import Channel
from sandbox.container.plan import ContainerPlan, FuseRoot
from sandbox.errors import Unavailable
from sandbox.linux import idmap
from sandbox.linux.cgroups import Cgroup
from sandbox.linux.descriptors import close_all_but, null_streams
from sandbox.linux.processes import ProcessRef, forget_command_line
from sandbox.linux.syscalls import CLONE_NEWPID, PR_SET_PDEATHSIG, prctl, set_name, unshare
from sandbox.spec import to_json

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031


class Started(Struct):
    """A container whose init runs and has not executed the command yet."""

    channel: Channel
    init: ProcessRef
    pidfd: int
    guard: int | None = None  # pid, a child; None for `exec`
    guard_pidfd: int = -1
    namespaces: tuple[int, int] = (-1, -1)  # user and network namespace, open
    stdin: int | None = None  # our ends of the pipes; None with a terminal
    stdout: int | None = None
    stderr: int | None = None
    farewell: int | None = None  # from a pid 1 of ours (`container.reaper`)
    resources: ExitStack = field(default_factory=ExitStack)

    def go(self, assignment: Assignment | None = None) -> None:
        """Give the init the word to go; *assignment* is for one that was prepared before."""
        last = {} if assignment is None else {"assignment": to_json(assignment)}
        with suppress(OSError):  # it has ended: who waits for it finds out why
            self.channel.send({"step": "go", **last})

    def abandon(self) -> None:
        """End everything: the guard's death is that of the whole container."""
        self.channel.close()
        if self.guard is not None:
            end_guard(self.guard)
        self.resources.close()


class Pipes(Struct, frozen=True):
    """The container's ends and ours."""

    theirs: tuple[int, int, int]
    stdin: int | None
    stdout: int
    stderr: int


def start(
    plan: ContainerPlan, overlay: Config, directory: Path, cgroup: Cgroup | None, *, stdin: bool
) -> Started:
    """Fork the guard and the init and take the latter to the point where it mounts.

    Raises SbxError; nothing is left running then.
    """
    with ExitStack() as stack:
        ours, theirs = Channel.pair()
        stack.callback(ours.close)
        overlay_end, mount_end = socket.socketpair()
        pipes = None if plan.process.tty else open_pipes(stdin)
        farewell = os.pipe() if plan.process.init else None
        own_pidfd = os.pidfd_open(os.getpid())
        sys.stdout.flush()
        sys.stderr.flush()
        # From here on our children live in a pid namespace of their own; we do not.
        _unshare_pid()
        config = overlay if isinstance(plan.root, FuseRoot) else None
        guard = os.fork()
        if guard == 0:
            _be_guard(config, overlay_end, own_pidfd)
        stack.callback(end_guard, guard)
        outer = os.fork()
        if outer == 0:
            their_farewell = farewell[1] if farewell else None
            _be_init(plan, theirs, mount_end, pipes, str(directory), their_farewell)
        theirs.close()
        overlay_end.close()
        for descriptor in (own_pidfd, *(pipes.theirs if pipes else ()), *(farewell or ())[1:]):
            os.close(descriptor)
        init, namespaces = _accompany(outer, plan, ours, cgroup)
        pidfd = os.pidfd_open(init)
        started = Started(
            channel=ours,
            init=ProcessRef.of(init),
            pidfd=pidfd,
            guard=guard,
            guard_pidfd=os.pidfd_open(guard),
            namespaces=namespaces,
            stdin=pipes.stdin if pipes else None,
            stdout=pipes.stdout if pipes else None,
            stderr=pipes.stderr if pipes else None,
            farewell=farewell[0] if farewell else None,
        )
        if farewell:
            started.resources.callback(os.close, farewell[0])
        started.resources.callback(mount_end.close)  # the guard waits for the end of this socket
        stack.pop_all()
        return started


def _accompany(
    outer: int, plan: ContainerPlan, channel: Channel, cgroup: Cgroup | None
) -> tuple[int, tuple[int, int]]:
    """Give the init its cgroup and its ids.

    Return the pid of the container's pid 1, and its user and network namespaces.
    """
    try:
        channel.expect("userns")
        if cgroup is not None:
            cgroup.add(outer)
        if plan.processes is None:
            idmap.write_maps(outer, plan.uid_map, plan.gid_map)
        else:  # the container's own namespace comes below this one
            idmap.write_maps(outer, idmap.unchanged("uid_map"), idmap.unchanged("gid_map"))
        channel.send({"step": "mapped"})
        namespaces, _ = channel.expect("namespaces")
        _, init = channel.expect("hello")
    except BaseException:
        end(outer)
        raise
    os.waitpid(outer, 0)
    return init, (namespaces[0], namespaces[1])


def _unshare_pid() -> None:
    try:
        unshare(CLONE_NEWPID)
    except OSError as err:
        raise Unavailable(
            "no pid namespace to be had", detail=err.strerror, hint="sbx doctor"
        ) from err


def open_pipes(stdin: bool) -> Pipes:
    """Return the standard streams: pipes with room for a megabyte, /dev/null where unused."""
    import fcntl

    ends = []
    for _ in range(2):
        read, write = os.pipe()
        try:
            fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass  # the user's share of pipe memory is used up (pipe(7)): the default serves too
        ends.append((read, write))
    if stdin:
        their_stdin, our_stdin = os.pipe()
    else:
        their_stdin, our_stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    (out_read, out_write), (err_read, err_write) = ends
    return Pipes(
        (their_stdin, out_write, err_write), our_stdin if stdin else None, out_read, err_read
    )


def _be_guard(config: Config | None, endpoint: socket.socket, supervisor: int) -> NoReturn:
    from sandbox.overlay import guard

    guard.run(config, endpoint, supervisor)


def _be_init(
    plan: ContainerPlan,
    channel: Channel,
    overlay: socket.socket,
    pipes: Pipes | None,
    staging: str,
    farewell: int | None,
) -> NoReturn:
    from sandbox.container import init

    # The command process may ignore SIGCHLD or have handlers: start from what exec would give.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    set_name("sbx-init")
    forget_command_line()
    stdio = pipes.theirs if pipes else None
    kept = [channel.fileno(), overlay.fileno(), *(stdio or ())]
    if farewell is not None:
        kept.append(farewell)
    null_streams()  # the container never holds the user's own
    close_all_but((0, 1, 2, *kept))
    init.outer(plan, init.Endpoints(channel, overlay, stdio, staging, farewell))


def end(pid: int) -> None:
    """Kill and reap a child of ours."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def end_guard(guard: int) -> None:
    """Kill the guard, and with it the whole container, and reap all that.

    The guard's end waits until its pid namespace is empty, and init, our child, is in there until
    we have reaped it: whoever has ended is taken, until it is the guard's turn.
    """
    try:
        os.kill(guard, signal.SIGKILL)
        while os.waitpid(-1, 0)[0] != guard:
            pass
    except (ProcessLookupError, ChildProcessError):
        pass

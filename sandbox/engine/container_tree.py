"""A container's files as its programs see them, for one child process of ours.

Of a running container: the child joins its user and mount namespaces. Of another: the child mounts
the overlay anew, detached, in a mount namespace of its own; what is in volumes is not there then.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from sandbox.container.channel import Channel, error_from
from sandbox.engine.uppers import make_upper
from sandbox.errors import Conflict, SbxError
from sandbox.image.ownership import mapped_ids
from sandbox.image.tree_copy import CONTAINED, Tree
from sandbox.linux import idmap
from sandbox.linux.descriptors import close_all_but
from sandbox.linux.mount_api import new_mount, open_fuse
from sandbox.linux.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    prctl,
    setns,
    unshare,
)
from sandbox.overlay import drivers
from sandbox.state import Container
from sandbox.supervisor.join import member

# Not the container's files: they tell of the kernel and of processes.
_CLOSED = ("proc", "sys", "dev")
_PATIENCE = 10.0  # seconds in which the kernel hands over what was written


class TreeChild:
    """A child process that works on a container's tree."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self._pid = pid
        self._channel = channel

    def finish(self) -> str:
        """Wait for its end and return what it said. Raises the SbxError that it met."""
        try:
            message, _, _ = self._channel.receive()
        finally:
            self._channel.close()
            os.waitpid(self._pid, 0)
        if message is None:
            raise SbxError("the copy was ended")
        if "error" in message:
            raise error_from(message)
        return str(message.get("said") or "")

    def end(self) -> None:
        """Kill and reap it."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._channel.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def in_tree(
    container: Container, work: Callable[[Tree], str], keep: tuple[int, ...] = ()
) -> TreeChild:
    """Start *work* on the container's tree in a child; this process is in the storage namespace.

    What *work* returns is what `finish` gives. *keep* are descriptors that only the child needs.
    """
    init = container.status.init if container.running else None
    target = member(init) if init is not None else None
    ours, theirs = Channel.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        _be_child(container, target, work, theirs)
    theirs.close()
    for descriptor in (*keep, *([target] if target is not None else [])):
        os.close(descriptor)
    return TreeChild(child, ours)


def _be_child(
    container: Container, target: int | None, work: Callable[[Tree], str], channel: Channel
) -> NoReturn:
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Nothing inside may trace us once we have joined (CVE-2016-9962).
        prctl(PR_SET_DUMPABLE, 0)
        with _joined(container, target) if target is not None else _mounted(container) as tree:
            said = work(tree)
        channel.send({"said": said})
    except BaseException as err:
        channel.report(err, "can't copy")
    finally:
        os._exit(0)


@contextmanager
def _joined(container: Container, target: int) -> Iterator[Tree]:
    init = container.status.init
    assert init is not None
    # Before: the container's /proc does not know us.
    maps = [idmap.read_map(f"/proc/{init.pid}/{kind}_map") for kind in ("uid", "gid")]
    setns(target, CLONE_NEWUSER | CLONE_NEWNS)
    uid, gid = (min(part.inside for part in found) for found in maps)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 0)  # changing ids may have set it again
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield Tree(root, CONTAINED, min(map(idmap.total, maps)), _closed(root))


@contextmanager
def _mounted(container: Container) -> Iterator[Tree]:
    """Give a new, detached mount of the container's overlay."""
    lock = os.open(container.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict("another copy from or to this container is under way") from None
    make_upper(container)
    unshare(CLONE_NEWNS)
    device = open_fuse()
    options = (
        ("fd", str(device)),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
        ("allow_other", None),
        ("default_permissions", None),
    )
    mount = new_mount("fuse", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, source="sbx")
    server = os.fork()
    if server == 0:
        close_all_but((0, 1, 2, device))
        _be_server(container, device)
    os.close(device)
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    try:
        yield Tree(root, CONTAINED, mapped_ids(), _closed(root))
        # The last descriptor of the mount ends it, and that the server, when all is written.
        os.chdir("/")
        os.close(root)
        os.close(mount)
        _wait(server)
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        os.close(lock)


def _wait(server: int) -> None:
    """Wait for the end of the server, which is still a child after it."""
    pidfd = os.pidfd_open(server)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll(_PATIENCE * 1000)
    os.close(pidfd)


def _be_server(container: Container, device: int) -> NoReturn:
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        from fuse_overlay import server

        upper, work = drivers.directories(container.directory)
        only = (0, 0) if mapped_ids() == 1 else None
        config = drivers.fuse_config(container.spec, upper, work, only_ids=only)
        server.serve(config, device)
    finally:
        os._exit(0)


def _closed(root: int) -> frozenset[tuple[int, int]]:
    found = set()
    for name in _CLOSED:
        with suppress(OSError):
            status = os.stat(name, dir_fd=root, follow_symlinks=False)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)

"""A container's changes on disk, for who reads them: commit, diff, export."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sandbox.container.build_plan import SINGLE_UID_FILES
from sandbox.container.standard_mounts import standard_mounts
from sandbox.errors import Conflict
from sandbox.image.upper_walk import Upper
from sandbox.linux.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    PR_SET_DUMPABLE,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
    prctl,
    setns,
)
from sandbox.overlay import drivers
from sandbox.spec import ContainerSpec
from sandbox.state import Container
from sandbox.supervisor.join import member

_TEXTS = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def upper_of(container: Container) -> Upper:
    """Return where the changes of *container* are; of a running one, all that it has written."""
    make_upper(container)
    if container.running and container.spec.overlay == "fuse":
        _write_back(container)
    directory, spec = container.directory, container.spec
    return Upper(
        str(directory / "upper"),
        str(directory / "work"),
        spec.lower,
        frozenset(_mountpoints(spec)),
        spec.hidden,
    )


def make_upper(container: Container) -> None:
    """Make the directories of a container that was created and has never run."""
    upper, work = drivers.directories(container.directory)
    if not (os.path.exists(upper) and os.path.exists(work)):
        drivers.make_directories(container.directory)


def _mountpoints(spec: ContainerSpec) -> Iterator[bytes]:
    for path in (*_TEXTS, *(file.target.strip("/") for file in SINGLE_UID_FILES)):
        yield os.fsencode(path)
    for step in standard_mounts(
        shm_size=0, tty_group=None, new_netns=True, cgroup=False, masked=False
    ):
        yield os.fsencode(step.target.strip("/"))
    for mount in spec.mounts:
        yield os.fsencode(mount.target.strip("/"))


def _write_back(container: Container) -> None:
    """Have the kernel hand to the overlay server what it still keeps of written files.

    close(2) of a file on FUSE does that (fs/fuse/file.c, fuse_flush), whoever wrote: each file of
    the upper is opened and closed by a child in the container's namespaces, as nobody else may use
    the mount. What a program writes from now on is not waited for.
    """
    files = list(_regular_files(str(container.directory / "upper")))
    init = container.status.init
    target = member(init) if init is not None else None
    if target is None or not files:
        return
    child = os.fork()
    if child == 0:
        _be_closer(target, files)
    os.close(target)
    os.waitpid(child, 0)


def _regular_files(upper: str) -> Iterator[str]:
    for root, _, names, directory in os.fwalk(upper):
        for name in names:
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(os.path.join(root, name), upper)


def _be_closer(target: int, files: list[str]) -> None:
    code = 1
    try:
        prctl(PR_SET_DUMPABLE, 0)
        setns(target, CLONE_NEWUSER | CLONE_NEWNS)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in files:
            try:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
                os.close(openat2(root, name, flags, resolve=_INSIDE))
            except OSError:
                continue  # gone, closed to us, or below a mount
        code = 0
    finally:
        os._exit(code)


def refuse_host(container: Container) -> None:
    """Raise Conflict for a container of this machine's own root, of which no image can be made."""
    if container.spec.lower == ("/",):
        name = container.spec.name
        raise Conflict(
            f"container {name} is of the built-in image host: it can't be part of another image",
            hint=f"sbx export {name} | sbx import - NAME takes the whole tree",
        )

"""Entering the storage user namespace: the user as 0, the subordinate ids from 1 on.

Live members are listed in a directory (a file per pid), so that commands meet in one namespace
and newuidmap(1) runs once, not per command. Where no member lives, a new one is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from msgspec import Struct

from sandbox.errors import Unavailable
from sandbox.linux import idmap
from sandbox.linux.processes import ProcessRef
from sandbox.linux.syscalls import CLONE_NEWUSER, setns, unshare


class User(Struct, frozen=True):
    """The user as the host knows it."""

    uid: int
    gid: int
    name: str


def enter(user: User, registry: Path) -> None:
    """Move this (single-threaded) process into the user's storage namespace.

    *registry* is a private directory. Raises Unavailable when user namespaces are forbidden.
    """
    lock = os.open(registry / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _join_member(registry):
            create(user)
            register(registry)
    finally:
        os.close(lock)


def register(registry: Path) -> None:
    """List this process, for as long as it lives, as one whose namespace others may join."""
    pid = int(os.readlink("/proc/self"))
    reference = ProcessRef.of(pid)
    aside = registry / f".{pid}"
    aside.write_text(f"{reference.pid} {reference.start_time} {reference.boot_id}")
    aside.rename(registry / str(pid))


def join(reference: ProcessRef) -> bool:
    """Join the user namespace of *reference*; False when it is gone or not to be joined."""
    pidfd = reference.open()
    if pidfd is None:
        return False
    try:
        setns(pidfd, CLONE_NEWUSER)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    become_root()
    return True


def _join_member(registry: Path) -> bool:
    for entry in sorted(os.listdir(registry)):
        if not entry.isdigit():
            continue
        try:
            pid, start, boot = (registry / entry).read_text().split()
            member = ProcessRef(int(pid), int(start), boot)
        except (ValueError, OSError):
            continue
        if join(member):
            return True
        if not member.alive():
            (registry / entry).unlink(missing_ok=True)
    return False


def create(user: User) -> None:
    """Make a new storage namespace and enter it."""
    names = (user.name, str(user.uid))
    subuids = idmap.read_subids("/etc/subuid", names)
    subgids = idmap.read_subids("/etc/subgid", names)
    if subuids and subgids and shutil.which("newuidmap") and shutil.which("newgidmap"):
        _create_with_subids(
            idmap.storage_map(user.uid, subuids), idmap.storage_map(user.gid, subgids)
        )
    else:
        _unshare()
        single = (idmap.Range(0, user.uid, 1),), (idmap.Range(0, user.gid, 1),)
        idmap.write_maps("self", *single)
    become_root()


def become_root() -> None:
    """Take id 0 of the namespace just entered: joining by setns(2) keeps the outer ids."""
    if os.getgid() != 0 or os.getegid() != 0:
        os.setresgid(0, 0, 0)
    if os.getuid() != 0 or os.geteuid() != 0:
        os.setresuid(0, 0, 0)


def _unshare() -> None:
    try:
        unshare(CLONE_NEWUSER)
    except OSError as err:
        raise Unavailable(
            "this machine does not let you make user namespaces",
            detail=f"unshare(CLONE_NEWUSER): {err.strerror}",
            hint="sbx doctor",
        ) from err


def _create_with_subids(uid_map: idmap.Map, gid_map: idmap.Map) -> None:
    """newuidmap(1) has to run outside the new namespace: a child made before waits for it."""
    own_pid = os.readlink("/proc/self")
    go_read, go_write = os.pipe()
    said_read, said_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(go_write)
            os.close(said_read)
            if os.read(go_read, 1):
                code = _run_map_tools(own_pid, uid_map, gid_map, said_write)
        finally:
            os._exit(code)
    os.close(go_read)
    os.close(said_write)
    try:
        _unshare()
        os.write(go_write, b"x")
        said = os.read(said_read, 4096).decode(errors="replace").strip()
    finally:
        os.close(go_write)
        os.close(said_read)
        _, status = os.waitpid(child, 0)
    if status != 0:
        raise Unavailable(
            "newuidmap could not map the subordinate ids", detail=said or None, hint="sbx doctor"
        )


def _run_map_tools(pid: str, uid_map: idmap.Map, gid_map: idmap.Map, said: int) -> int:
    """Run newuidmap and newgidmap at the same time; return 0 when both succeeded."""
    children = []
    for tool, mapping in (("newuidmap", uid_map), ("newgidmap", gid_map)):
        path = shutil.which(tool) or tool
        argv = [tool, pid] + [field for r in mapping for field in str(r).split()]
        actions = [(os.POSIX_SPAWN_DUP2, said, 2)]
        children.append(os.posix_spawn(path, argv, os.environ, file_actions=actions))
    codes = [os.waitpid(child, 0)[1] for child in children]
    return 0 if codes == [0, 0] else 1

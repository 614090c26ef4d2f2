"""Where this user may make cgroups: found by looking and trying, nothing is taken on trust.

A *delegated subtree* is a cgroup whose directory, cgroup.procs and cgroup.subtree_control the user
may write (cgroup-v2.rst, "Delegation"). Two rules shape the search:

- No internal processes: a cgroup with processes in it can't enable controllers for children. sbx
  itself sits in some cgroup, so an ancestor of it is the usual place.
- Below `user@UID.service` every cgroup is writable, yet systemd is the single writer there except
  in units with Delegate=yes, which it marks with an extended attribute
  (systemd.io/CGROUP_DELEGATION). Elsewhere, what is writable was given to the user on purpose.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from sandbox.linux.cgroups_directory import Cgroup

WANTED = ("cpu", "cpuset", "io", "memory", "pids")
LEAF = "sbx-outside"  # where processes go that stand in the way of controllers
_USER_SERVICE = re.compile(r"user@\d+\.service")
_MOVES = 20


class Delegation(Struct, frozen=True):
    """A cgroup below which containers get theirs."""

    path: str  # absolute
    controllers: frozenset[str]  # that children have, or could have when only looked at


def discover(*, enable: bool = True) -> Delegation | None:
    """Return the nearest subtree that is ours and gives controllers to children, else None.

    With *enable* the controllers that are there but off are switched on for its children. Among
    the ancestors the first with `memory` and `pids` wins, else the one with most controllers.
    """
    own = own_path()
    if own is None:
        return None
    found = [_look(path, enable=enable) for path in _candidates(own)]
    best: Delegation | None = None
    for delegation in found:
        if delegation and (best is None or len(delegation.controllers) > len(best.controllers)):
            best = delegation
    return best


def _candidates(own: Path) -> Iterator[Path]:
    """Yield the cgroups that are ours to use: the ancestors, nearest first, then *own* itself.

    *own* holds at least the caller, so it gives no controllers, unless it is the hierarchy's root;
    it still gives cgroup.kill.
    """
    device = os.stat(own).st_dev
    managed = _USER_SERVICE.search(str(own)) is not None
    for path in own.parents:
        if os.stat(path).st_dev != device or not _writable(path):
            break
        if managed and _USER_SERVICE.search(str(path)) is None:
            break
        if not _belongs_to_systemd(path):
            yield path
    if _writable(own) and not _belongs_to_systemd(own):
        yield own


def _writable(path: Path) -> bool:
    """The three rights of a delegatee; root's cgroups are not writable to others."""
    # The effective ids count, and within the storage namespace the kernel answers for them too.
    names = ("", "cgroup.procs", "cgroup.subtree_control")
    return all(os.access(path / name, os.W_OK, effective_ids=True) for name in names)


def _belongs_to_systemd(path: Path) -> bool:
    """True below user@UID.service, unless a unit with Delegate=yes is in between."""
    parts = path.parts
    managers = [i for i, part in enumerate(parts) if _USER_SERVICE.fullmatch(part)]
    if not managers:
        return False
    below = [Path(*parts[: i + 1]) for i in range(managers[-1] + 1, len(parts))]
    return not any(_marked_delegated(cgroup) for cgroup in below)


def _marked_delegated(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.delegate") == b"1"
    except OSError:
        return False


def _look(path: Path, *, enable: bool) -> Delegation | None:
    """Return what children of *path* can have; None when nothing can be made there."""
    cgroup = Cgroup(str(path))
    try:
        enabled = set(cgroup.read("cgroup.subtree_control").split())
        free = (cgroup.controllers() & set(WANTED)) - enabled
        if _occupied(cgroup):
            # cpu, cpuset and pids could be enabled nevertheless, and would turn this cgroup into
            # the root of a threaded subtree, where children take no processes.
            return None if enabled else Delegation(str(path), frozenset())
        enabled |= enable_controllers(cgroup, free) if enable else free
    except OSError:
        return None
    return Delegation(str(path), frozenset(enabled))


def _occupied(cgroup: Cgroup) -> bool:
    """True when processes are in *cgroup* itself; the hierarchy's root may have some."""
    return bool(cgroup.pids()) and os.path.exists(f"{cgroup.path}/cgroup.type")


def enable_controllers(cgroup: Cgroup, names: frozenset[str] | set[str]) -> set[str]:
    """Switch *names* on for the children of *cgroup*; return those for which that worked.

    One by one: a controller that can't be enabled (cpu with real-time tasks) must not hold up the
    others. Doing it twice at the same time does no harm.
    """
    enabled = set()
    for name in sorted(names):
        try:
            cgroup.write("cgroup.subtree_control", f"+{name}")
            enabled.add(name)
        except OSError as err:
            if err.errno == errno.EBUSY:  # processes inside: the same for every controller
                break
    return enabled


def vacatable() -> str | None:
    """Return the own cgroup if it was delegated as a whole: by a mark, or as a namespace's root."""
    own = own_path()
    if own is None or not _writable(own):
        return None
    # The hierarchy's root has no cgroup.type; the root of a cgroup namespace has.
    namespace_root = _own_cgroup() == "/" and (own / "cgroup.type").exists()
    return str(own) if namespace_root or _marked_delegated(own) else None


def vacate(path: str) -> Delegation | None:
    """Move every process in *path* itself into a leaf below, then enable the controllers.

    For a delegated cgroup that has no usable parent: a service or scope with Delegate=yes, or a
    container's own cgroup namespace. Processes may fork meanwhile, hence the repetition.
    """
    cgroup = Cgroup(path)
    wanted = cgroup.controllers() & set(WANTED)
    leaf = _leaf(path)
    for _ in range(_MOVES):
        for pid in cgroup.pids():
            _move(leaf, pid)
        if enabled := enable_controllers(cgroup, wanted):
            return Delegation(path, frozenset(enabled))
    return None


def _leaf(path: str) -> Cgroup:
    try:
        os.mkdir(f"{path}/{LEAF}", 0o755)
    except FileExistsError:
        pass
    return Cgroup(f"{path}/{LEAF}")


def _move(leaf: Cgroup, pid: int) -> None:
    try:
        if pid:
            leaf.add(pid)
    except ProcessLookupError:
        pass


def own_path() -> Path | None:
    """Return the directory of the caller's cgroup, or None where it can't be seen.

    None as well when the process sits outside its cgroup namespace's root ("/../…").
    """
    inside = _own_cgroup()
    if inside is None or inside.startswith("/.."):
        return None
    for root, mount_point in _mounts():
        if inside == root or inside.startswith(root.rstrip("/") + "/"):
            path = Path(mount_point, inside[len(root) :].lstrip("/"))
            if path.is_dir():
                return path
    return None


def _own_cgroup() -> str | None:
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return None


def _mounts() -> Iterator[tuple[str, str]]:
    """Yield (root inside the hierarchy, mount point) of every cgroup2 mount (proc(5))."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                fields = before.split(" ")
                yield _unescape(fields[3]), _unescape(fields[4])


def _unescape(field: str) -> str:
    return field.encode("latin-1", "replace").decode("unicode_escape") if "\\" in field else field

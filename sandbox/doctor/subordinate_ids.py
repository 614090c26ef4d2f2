"""Subordinate ids (subuid(5), newuidmap(1)): more than one user id inside a container."""

from __future__ import annotations

import os
import shutil
import stat

from msgspec import Struct

from sandbox.doctor.check import Check, Host
from sandbox.doctor.trial import attempt
from sandbox.linux import idmap, storage_userns

_WANTED = 65536
_FIRST = 100_000  # login.defs(5): SUB_UID_MIN
_MATTERS = (
    "without them every file and process of a container is yours alone: other users inside are"
    " emulated"
)


def check_ranges(host: Host) -> Check:
    """Look at the user's lines in /etc/subuid and /etc/subgid."""
    name = "subordinate ids"
    names = (host.user, str(host.uid))
    counts = []
    for path in ("/etc/subuid", "/etc/subgid"):
        ranges = idmap.read_subids(path, names)
        counts.append(sum(count for _, count in ranges))
        if foreign := overlapping(path, names):
            found = f"{path}: your range overlaps that of {foreign}"
            return Check(name, "warn", found, "that user's containers share ids with yours", "")
    if min(counts) >= _WANTED:
        return Check(name, "ok", f"{counts[0]} user ids, {counts[1]} group ids")
    few = f"only {counts[0]} user ids and {counts[1]} group ids"
    found = few if max(counts) else f"none for {host.user} in /etc/subuid and /etc/subgid"
    return Check(name, "warn", found, _MATTERS, _grant(host, counts))


def _grant(host: Host, counts: list[int]) -> str:
    options = []
    for path, option, count in zip(
        ("/etc/subuid", "/etc/subgid"), ("--add-subuids", "--add-subgids"), counts, strict=True
    ):
        if count < _WANTED:
            first = free_range(path)
            options.append(f"{option} {first}-{first + _WANTED - 1}")
    return f"sudo usermod {' '.join(options)} {host.user}"


class Entry(Struct, frozen=True):
    """A line of subuid(5)."""

    owner: str
    start: int
    count: int


def entries(path: str) -> list[Entry]:
    """Return the well-formed lines of *path*."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            fields = [line.strip().split(":") for line in file]
    except OSError:
        return []
    return [
        Entry(f[0], int(f[1]), int(f[2]))
        for f in fields
        if len(f) == 3 and f[1].isdecimal() and f[2].isdecimal()
    ]


def overlapping(path: str, names: tuple[str, ...]) -> str | None:
    """Return the owner of a range that overlaps one of *names*'s, or None."""
    lines = entries(path)
    own = [line for line in lines if line.owner in names]
    for other in (line for line in lines if line.owner not in names):
        for mine in own:
            if mine.start < other.start + other.count and other.start < mine.start + mine.count:
                return other.owner
    return None


def free_range(path: str, count: int = _WANTED) -> int:
    """Return the start of *count* ids that no line of *path* uses."""
    start = _FIRST
    for line in sorted(entries(path), key=lambda entry: entry.start):
        if line.start < start + count and start < line.start + line.count:
            start = line.start + line.count
    return start


def check_tools(host: Host) -> Check:
    """Look at newuidmap and newgidmap, then have them map a namespace."""
    name = "newuidmap, newgidmap"
    for tool in ("newuidmap", "newgidmap"):
        path = shutil.which(tool)
        if path is None:
            install = host.distribution.install("uidmap")
            return Check(name, "warn", f"{tool} is not installed", _MATTERS, install)
        if not _privileged(path):
            capability = "cap_setuid" if tool == "newuidmap" else "cap_setgid"
            mend = f"sudo setcap {capability}+ep {path}"
            return Check(
                name, "warn", f"{path} is neither setuid nor has capabilities", _MATTERS, mend
            )
    return _try_tools(name, host)


def _try_tools(name: str, host: Host) -> Check:
    if not idmap.read_subids("/etc/subuid", (host.user, str(host.uid))):
        return Check(name, "ok", "installed; no ids to try them with")
    user = storage_userns.User(host.uid, host.gid, host.user)
    worked, said = attempt(lambda: _map(user))
    if worked:
        return Check(name, "ok", f"they map {said} ids")
    if _no_new_privileges():
        said = "this shell runs with no_new_privs, where setuid programs are powerless"
    return Check(name, "warn", said, _MATTERS, "")


def _map(user: storage_userns.User) -> str:
    storage_userns.create(user)
    return str(idmap.total(idmap.read_map("/proc/self/uid_map")))


def _privileged(path: str) -> bool:
    status = os.stat(path)
    if status.st_mode & stat.S_ISUID and status.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _no_new_privileges() -> bool:
    with open("/proc/self/status") as file:
        return "NoNewPrivs:\t1\n" in file

"""User and group id maps of user namespaces (user_namespaces(7), subuid(5)).

Two namespaces matter. The *storage* namespace has the user as 0 and the user's subuids from 1 on;
images are unpacked and overlays served in it. Each container's namespace lies below it, and its
maps count in the ids of the storage namespace.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct


class Range(Struct, frozen=True):
    """A line of uid_map: *count* ids from *inside* on are *outside* … in the parent namespace."""

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"


Map = tuple[Range, ...]


def read_subids(path: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the (start, count) ranges that *path* (/etc/subuid or /etc/subgid) gives *names*.

    *names* are the user's login name and its uid in decimal: subuid(5) allows both.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    ranges = []
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names:
            try:
                start, count = int(fields[1]), int(fields[2])
            except ValueError:
                continue
            if start > 0 and count > 0 and (start, count) not in ranges:
                ranges.append((start, count))
    return ranges


def storage_map(own_id: int, subids: Sequence[tuple[int, int]]) -> Map:
    """Return the storage namespace's map: the user as 0, the subordinate ids from 1 on."""
    ranges = [Range(0, own_id, 1)]
    inside = 1
    for start, count in subids:
        ranges.append(Range(inside, start, count))
        inside += count
    return tuple(ranges)


def total(mapping: Map) -> int:
    """Return how many ids a map that starts at 0 and has no gaps holds."""
    return sum(r.count for r in mapping)


def unchanged(kind: str) -> Map:
    """Return the map of a namespace with the ids of the own one; *kind* is uid_map or gid_map."""
    return tuple(Range(r.inside, r.inside, r.count) for r in read_map(f"/proc/self/{kind}"))


def first(mapping: Map) -> int:
    """Return the lowest id inside."""
    return min(r.inside for r in mapping)


def root_map(available: int) -> Map:
    """The container's root is the user; the other ids are subordinate ones."""
    return (Range(0, 0, available),)


def keep_id_map(available: int, own_id: int) -> Map:
    """The user keeps the own id inside; the container's root is a subordinate id.

    With fewer ids than *own_id* needs, what lies above them is not mapped.
    """
    if available == 1:
        return (Range(own_id, 0, 1),)
    below = min(own_id, available - 1)
    ranges = []
    if below:
        ranges.append(Range(0, 1, below))
    ranges.append(Range(own_id, 0, 1))
    if available - 1 > below:
        ranges.append(Range(own_id + 1, below + 1, available - 1 - below))
    return tuple(ranges)


def auto_map(available: int) -> Map:
    """Only subordinate ids: the user's own id is not reachable, even after an escape."""
    return (Range(0, 1, available - 1),)


def span(mapping: Map, parent: Map) -> tuple[int, int]:
    """Return the two ids inside between which, in the host's order, all ids of *mapping* lie.

    The kernel keeps net.ipv4.ping_group_range as two ids of the host, and refuses or empties a
    range that runs backwards inside or there (net/ipv4/sysctl_net_ipv4.c): then just the first.
    """
    ends = sorted(
        (p.outside + r.outside - p.inside + offset, r.inside + offset)
        for r in mapping
        for p in parent
        if p.inside <= r.outside < p.inside + p.count
        for offset in (0, r.count - 1)
    )
    first, last = ends[0][1], min(ends[-1][1], (1 << 31) - 2)
    return (first, last) if first <= last else (first, first)


def write_maps(pid: int | str, uid_map: Map, gid_map: Map) -> None:
    """Write the maps of *pid*'s user namespace, from its parent namespace."""
    if len(gid_map) == 1 and gid_map[0].count == 1:
        # Without privilege in the parent, setgroups(2) has to be given up first.
        try:
            _write(f"/proc/{pid}/setgroups", "deny")
        except PermissionError:
            pass
    _write(f"/proc/{pid}/uid_map", "\n".join(map(str, uid_map)))
    _write(f"/proc/{pid}/gid_map", "\n".join(map(str, gid_map)))


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def read_map(path: str = "/proc/self/uid_map") -> Map:
    """Return the map of the own user namespace (or of the one that *path* tells of)."""
    with open(path) as file:
        return tuple(Range(*map(int, line.split())) for line in file)


def split(mapping: Map, parent: Map) -> Map:
    """Cut *mapping* where the parent's map has seams.

    The kernel takes a range only when the parent maps it in one piece (user_namespaces(7)).
    """
    pieces = []
    for r in mapping:
        for p in parent:
            first = max(r.outside, p.inside)
            last = min(r.outside + r.count, p.inside + p.count)
            if first < last:
                pieces.append(Range(r.inside + first - r.outside, first, last - first))
    return tuple(pieces)

"""Tar archives written entry by entry (POSIX.1-2017, pax): the same tree gives the same bytes.

What does not fit a ustar header goes into an extended one: long names, large numbers, extended
attributes (`SCHILY.xattr.`, as star, GNU tar and docker write them) and the map of a sparse file
(GNU tar's format 1.0, which docker, podman and skopeo read).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from msgspec import Struct

from sandbox.image.tar_stream import BLOCK, Entry, Kind, Part

END = bytes(2 * BLOCK)
_TYPES: dict[Kind, bytes] = {"file": b"0", "link": b"1", "symlink": b"2", "dir": b"5", "fifo": b"6"}
_MOST_ID = 0o7777777
_MOST_SIZE = _MOST_TIME = 0o77777777777


class Device(Struct, frozen=True):
    """The numbers of a device node."""

    block: bool
    number: int


def header(entry: Entry, device: Device | None = None) -> bytes:
    """Return all that stands before an entry's data, without the map of a sparse file.

    `entry.stored` is the number of bytes that follow, the map included. Times are whole seconds.
    """
    records: dict[bytes, bytes] = {}
    name = entry.name + b"/" if entry.kind == "dir" else entry.name
    if entry.parts is not None:
        records[b"GNU.sparse.major"] = b"1"
        records[b"GNU.sparse.minor"] = b"0"
        records[b"GNU.sparse.name"] = name
        records[b"GNU.sparse.realsize"] = b"%d" % entry.size
        name = b"GNUSparseFile.0/" + os.path.basename(name)[:80]
    if len(name) > 100:
        records[b"path"] = name
    if len(entry.link) > 100:
        records[b"linkpath"] = entry.link
    for key, value, most in (
        (b"uid", entry.uid, _MOST_ID),
        (b"gid", entry.gid, _MOST_ID),
        (b"size", entry.stored, _MOST_SIZE),
        (b"mtime", entry.mtime_ns // 10**9, _MOST_TIME),
    ):
        if not 0 <= value <= most:
            records[key] = b"%d" % value
    for attribute in sorted(entry.xattrs):
        records[b"SCHILY.xattr." + os.fsencode(attribute)] = entry.xattrs[attribute]
    extended = _extended(records) if records else b""
    if device is None:
        kind, number = _TYPES[entry.kind], 0
    else:
        kind, number = (b"4" if device.block else b"3"), device.number
    return extended + _ustar(
        name[:100],
        kind,
        entry.mode & 0o7777,
        entry.uid,
        entry.gid,
        entry.stored,
        entry.mtime_ns // 10**9,
        entry.link[:100],
        number,
    )


def padding(size: int) -> bytes:
    """Return what follows *size* bytes of data up to the next block."""
    return bytes(-size % BLOCK)


def sparse_map(parts: Sequence[Part]) -> bytes:
    """Return the map of a sparse file, which stands before its data."""
    numbers = [len(parts), *(number for part in parts for number in part)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + padding(len(text))


def _extended(records: dict[bytes, bytes]) -> bytes:
    content = b"".join(_record(key, value) for key, value in records.items())
    # The name shows only where a reader does not know pax; it says nothing of the entry.
    before = _ustar(b"PaxHeaders/header", b"x", 0o644, 0, 0, len(content), 0, b"", 0)
    return before + content + padding(len(content))


def _record(key: bytes, value: bytes) -> bytes:
    """Return "LENGTH KEY=VALUE\\n", whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _ustar(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    number: int,
) -> bytes:
    fields: Iterable[bytes] = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % (uid if 0 <= uid <= _MOST_ID else 0),
        b"%07o\0" % (gid if 0 <= gid <= _MOST_ID else 0),
        b"%011o\0" % (size if size <= _MOST_SIZE else 0),
        b"%011o\0" % (seconds if 0 <= seconds <= _MOST_TIME else 0),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\00000",
        bytes(64),  # names of owners: ids are what counts
        b"%07o\0" % os.major(number),
        b"%07o\0" % os.minor(number),
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]

"""Files of overlay directories as members of a tar archive: what users see, not what is stored.

Owners that were only recorded, escaped attributes and a user's own devices are given back their
meaning; marks of the overlay are left out. Every file is opened from its directory's descriptor,
never through a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from msgspec import Struct, field

from fuse_overlay import whiteout
from fuse_overlay.ownership import overflow_id, overridden
from sandbox.image.apply_layer import Applied
from sandbox.image.content import CHUNK
from sandbox.image.merged import LayerDir
from sandbox.image.ownership import OVERRIDE
from sandbox.image.shown_xattrs import shown_xattrs
from sandbox.image.tar_stream import Entry, Kind, Part
from sandbox.image.tar_writer import Device, header, padding, sparse_map

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEAST_HOLE = 1 << 20  # smaller ones are worth no map: packing makes nothing of them


class Members(Struct):
    """Writes members; remembers which files it has written, for their further names."""

    epoch: int | None = None  # SOURCE_DATE_EPOCH: no time is later
    squash: bool = False  # everything belongs to 0
    left_out: Applied = field(default_factory=Applied)
    _written: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def member(
        self, path: bytes, where: LayerDir, name: bytes, *, shared: bool = False
    ) -> Iterator[bytes]:
        """Yield the member *path*, which is *name* in the real directory *where*.

        *shared*: it may have further names, whatever its link count.
        """
        status = os.stat(name, dir_fd=where.open(), follow_symlinks=False)
        where.enter()
        attributes = whiteout.list_xattrs(name)
        mode, uid, gid, rdev = self._shown(name, status, attributes, squash=where.layer.squash)
        if where.layer.world_only and stat.S_ISREG(mode) and not mode & stat.S_IROTH:
            self.left_out.leave_out("file that not everybody may read", path)
            return
        if self.squash:
            uid = gid = 0
        kind = _KINDS.get(stat.S_IFMT(mode))
        if kind is None:
            return  # a socket: it was nothing without its process, and tar has no type for it
        entry = Entry(path, kind, mode, uid, gid, self._moment(status), 0)
        if kind != "dir" and (shared or status.st_nlink > 1):
            first = self._written.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry.kind, entry.link = "link", first
                yield header(entry)
                return
        if kind == "symlink":
            entry.link = os.readlink(name, dir_fd=where.open())
        entry.xattrs = shown_xattrs(name, attributes)
        if kind == "file":
            yield from _file(entry, where, name)
        else:
            device = Device(stat.S_ISBLK(mode), rdev) if kind == "device" else None
            yield header(entry, device)

    def mark(self, path: bytes) -> bytes:
        """Return an empty file, which is what the marks of layers are."""
        return header(Entry(path, "file", 0o600, 0, 0, 0, 0))

    def _shown(
        self, name: bytes, status: os.stat_result, attributes: list[str], *, squash: bool
    ) -> tuple[int, int, int, int]:
        mode, uid, gid, rdev = status.st_mode, status.st_uid, status.st_gid, status.st_rdev
        if squash:  # the host's root: its ids have no meaning here
            uid = 0 if uid == overflow_id("uid") else uid
            gid = 0 if gid == overflow_id("gid") else gid
        if OVERRIDE in attributes:
            text = whiteout.read_xattr(name, OVERRIDE.encode())
            mode, uid, gid, rdev = overridden(text, (mode, uid, gid, rdev))
        if whiteout.NODE.decode() in attributes and whiteout.is_user_whiteout(name, status):
            mode = stat.S_IFCHR | stat.S_IMODE(mode)
        return mode, uid, gid, rdev

    def _moment(self, status: os.stat_result) -> int:
        # Whole seconds, as docker and podman write: a pull gives what a commit had.
        seconds = status.st_mtime_ns // 10**9
        return (seconds if self.epoch is None else min(seconds, self.epoch)) * 10**9


def _file(entry: Entry, where: LayerDir, name: bytes) -> Iterator[bytes]:
    """Yield header and content; a file that shrinks meanwhile is filled up with zeros."""
    descriptor = os.open(name, _READ, dir_fd=where.open())
    try:
        # Its size at this moment: a program may be writing to it.
        entry.size = entry.stored = os.fstat(descriptor).st_size
        parts = _parts(descriptor, entry.size)
        if parts is None:
            yield header(entry)
            yield from _content(descriptor, 0, entry.size)
        else:
            sparse = sparse_map(parts)
            entry.parts = tuple(parts)
            entry.stored = len(sparse) + sum(length for _, length in parts)
            yield header(entry) + sparse
            for offset, length in parts:
                yield from _content(descriptor, offset, length)
        if entry.stored % 512:
            yield padding(entry.stored)
    finally:
        os.close(descriptor)


def _content(descriptor: int, offset: int, length: int) -> Iterator[bytes]:
    while length:
        data = os.pread(descriptor, min(length, CHUNK), offset)
        if not data:
            data = bytes(min(length, CHUNK))
        yield data
        offset += len(data)
        length -= len(data)


def _parts(descriptor: int, size: int) -> list[Part] | None:
    """Return where a file has data; None for one that has no holes worth a map."""
    if size < _LEAST_HOLE or os.fstat(descriptor).st_blocks * 512 > size - _LEAST_HOLE:
        return None
    parts: list[Part] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as err:
            if err.errno != errno.ENXIO:  # nothing but a hole up to the end
                raise
            break
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start < end:
            parts.append((start, end - start))
        at = end
    if sum(length for _, length in parts) > size - _LEAST_HOLE:
        return None
    # As GNU tar does it: the map's end is the file's.
    return [*parts, (size, 0)]

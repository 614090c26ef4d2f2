"""inotify(7): learning that a file grew or was renamed, without asking again and again."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from types import TracebackType

from msgspec import Struct

from sandbox.linux.libc import libc, raise_errno

IN_MODIFY = 0x00000002
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800
IN_IGNORED = 0x00008000
IN_ONLYDIR = 0x01000000

_EVENT = struct.Struct("iIII")


class Event(Struct, frozen=True):
    """Something happened: *mask* says what, *name* to which entry of a watched directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """An inotify instance; readable when there are events."""

    def __init__(self) -> None:
        self.fd = inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self, path: os.PathLike[str], mask: int) -> int:
        """Watch *path*. Raises OSError."""
        return inotify_add_watch(self.fd, path, mask)

    def read(self) -> list[Event]:
        """Return the events that are there; none when there are none."""
        try:
            return list(_decode(os.read(self.fd, 65536)))
        except BlockingIOError:
            return []

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _decode(data: bytes) -> Iterator[Event]:
    position = 0
    while position < len(data):
        watch, mask, _cookie, length = _EVENT.unpack_from(data, position)
        position += _EVENT.size
        name = data[position : position + length].rstrip(b"\0")
        position += length
        yield Event(watch, mask, os.fsdecode(name))


def inotify_init1(flags: int = 0) -> int:
    fd = int(libc.inotify_init1(flags))
    if fd < 0:
        raise_errno()
    return fd


def inotify_add_watch(fd: int, pathname: os.PathLike[str], mask: int) -> int:
    watch = int(libc.inotify_add_watch(fd, os.fsencode(pathname), mask))
    if watch < 0:
        raise_errno(pathname)
    return watch

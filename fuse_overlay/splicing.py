"""Answering READ without touching the data: from the page cache through a pipe to /dev/fuse."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from .protocol import OUT_HEADER

_PIPE = 1 << 18
_LARGEST = _PIPE // 2  # each page takes a slot of the pipe, the header one, too
_SMALLEST = 1 << 15  # below, a copy costs less than the calls


class Splicer:
    """A pipe, as large as the reads that the kernel makes ahead (128 KiB) need."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._reader = self._writer = -1
        self._open()

    def _open(self) -> None:
        self._reader, self._writer = os.pipe()
        try:
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, _PIPE)
        except OSError:  # the user has too many pages in pipes, pipe(7)
            self._close()

    def _close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)
        self._reader = self._writer = -1

    def answer(self, unique: int, fd: int, offset: int, count: int) -> bool:
        """Answer request *unique* with what *fd* has; False, and nothing sent, if it can't be."""
        if self._writer < 0 or not _SMALLEST < count <= _LARGEST:
            return False
        count = min(count, os.fstat(fd).st_size - offset)
        if count < _SMALLEST:
            return False
        os.write(self._writer, OUT_HEADER.pack(OUT_HEADER.size + count, 0, unique))
        done = 0
        with suppress(OSError):  # not every file system can
            done = os.splice(fd, self._writer, count, offset)
        if done == count:
            try:
                os.splice(self._reader, self._device, OUT_HEADER.size + count)
            except OSError:
                self._anew()
                raise
            return True
        self._anew()
        return False

    def _anew(self) -> None:
        """Get rid of what is in the pipe."""
        self._close()
        self._open()

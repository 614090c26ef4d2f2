"""What the upper may take of the disk: bytes in blocks, and inodes.

Counted from st_blocks, so holes are free, as with the disk quotas of file systems.
"""

from __future__ import annotations

import errno
import os
from typing import Any

BLOCK = 512  # the unit of st_blocks, stat(2)


class Quota:
    """Limits and use. The use may go over the limit by what is written in one request."""

    def __init__(self, size: int | None, inodes: int | None) -> None:
        self.size = size
        self.inodes = inodes
        self.used = 0
        self.used_inodes = 0

    def measure(self, fd: int) -> None:
        """Count what is there already, every inode once."""
        seen: set[int] = set()
        for _, dirs, files, here in os.fwalk(b".", dir_fd=fd, follow_symlinks=False):
            for name in dirs + files:
                st = os.stat(name, dir_fd=here, follow_symlinks=False)
                if st.st_ino not in seen:
                    seen.add(st.st_ino)
                    self.used += st.st_blocks * BLOCK
                    self.used_inodes += 1

    def check_inode(self) -> None:
        """Refuse one more inode (or the directory entry for it) at the limit."""
        if self.inodes is not None and self.used_inodes >= self.inodes:
            raise OSError(errno.ENOSPC, "inode quota reached")
        self.check(0)

    def check(self, more: int) -> None:
        """Refuse *more* bytes beyond the limit."""
        if self.size is not None and self.used + more > self.size:
            raise OSError(errno.ENOSPC, "quota reached")

    def check_write(self, st: os.stat_result, offset: int, length: int) -> None:
        """Refuse a write that needs new blocks beyond the limit; overwriting stays possible."""
        if self.size is None or self.used + length <= self.size:
            return
        solid = st.st_blocks * BLOCK >= st.st_size
        if offset + length > (st.st_blocks * BLOCK if solid else 0):
            raise OSError(errno.ENOSPC, "quota reached")

    def limit(self, data: Any) -> None:
        """Let a statvfs answer show the limits instead of the disk's, where they are less."""
        if self.size is not None:
            unit = data.f_frsize
            data.f_blocks = min(data.f_blocks, -(-self.size // unit))
            free = max(self.size - self.used, 0) // unit
            data.f_bfree = min(data.f_bfree, free)
            data.f_bavail = min(data.f_bavail, free)
        if self.inodes is not None:
            data.f_files = self.inodes
            free = max(self.inodes - self.used_inodes, 0)
            data.f_ffree = min(data.f_ffree, free) if data.f_ffree else free
            data.f_favail = data.f_ffree

    def add(self, blocks: int, inodes: int = 0) -> None:
        """Count blocks (of 512 bytes) and inodes, negative when they were given back."""
        self.used += blocks * BLOCK
        self.used_inodes += inodes

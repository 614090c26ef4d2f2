"""What the kernel is told of a node: its attributes, and how long they are good."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .inodes import DEVICE, LINKED, SUID, Node
from .protocol import ATTR, ATTR_VALID, ENTRY_VALID, NODE

if TYPE_CHECKING:
    from .state import Overlay

SET_ID = stat.S_ISUID | stat.S_ISGID
_SECOND = 1_000_000_000
_COUNTED = DEVICE | LINKED
_DEV = 0xFFFFFFFF  # device numbers have 32 bits here, coded as glibc codes the small ones


class Answers:
    """Makes answers of real attributes."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._own = overlay.ownership
        self._plain = self._own.plain
        config = overlay.config
        short = config.live_timeout if config.live_lower else config.timeout
        # Of a lower's file, and (True) of the upper's.
        self._attr_valid = (_attr_valid(short), _attr_valid(config.timeout))
        self._entry_valid = (_entry_valid(short), _entry_valid(config.timeout))
        self.nothing = NODE.pack(0, 0) + self._entry_valid[False] + bytes(ATTR.size)
        """Node id 0: the kernel remembers that there is no such name."""

    def attr(self, node_id: int, node: Node | None, st: os.stat_result) -> bytes:
        """struct fuse_attr. The node keeps the flags that follow from it; None: there is none.

        What has no node is a file of a lower that is as its real attributes say.
        """
        mode, _, _, nlink, uid, gid, size, atime, mtime, ctime = st
        rdev = st.st_rdev
        if not self._plain:
            mode, uid, gid, rdev = self._own.shown(node, st)
        if node is not None:
            if mode & SET_ID:
                node.flags |= SUID
            if nlink > 1 or node.gone or node.flags & _COUNTED or node.kind == stat.S_IFDIR:
                if node.flags & DEVICE:
                    mode = stat.S_IFCHR | stat.S_IMODE(mode)
                nlink = 0 if node.gone else self._overlay.nlink(node, st)
        return ATTR.pack(
            node_id,
            size,
            st.st_blocks,
            atime,
            mtime,
            ctime,
            st.st_atime_ns - atime * _SECOND,
            st.st_mtime_ns - mtime * _SECOND,
            st.st_ctime_ns - ctime * _SECOND,
            mode,
            nlink,
            uid,
            gid,
            rdev & _DEV,
            st.st_blksize,
            0,
        )

    def attributes(self, node: Node, st: os.stat_result) -> bytes:
        """struct fuse_attr_out."""
        return self._attr_valid[node.in_upper] + self.attr(node.id, node, st)

    def entry(self, node_id: int, node: Node | None, st: os.stat_result) -> bytes:
        """struct fuse_entry_out, which gives the kernel a reference."""
        valid = self._entry_valid[node is not None and node.in_upper]
        return NODE.pack(node_id, 0) + valid + self.attr(node_id, node, st)


def _attr_valid(timeout: float) -> bytes:
    """How long attributes are good."""
    return ATTR_VALID.pack(*_split(timeout), 0)


def _entry_valid(timeout: float) -> bytes:
    """How long a name and the attributes are good."""
    seconds, rest = _split(timeout)
    return ENTRY_VALID.pack(seconds, seconds, rest, rest)


def _split(timeout: float) -> tuple[int, int]:
    seconds = int(timeout)
    return seconds, int((timeout - seconds) * _SECOND)

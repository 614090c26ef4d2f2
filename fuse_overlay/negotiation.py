"""FUSE_INIT: what the kernel and this server agree on.

pyfuse3 answers first; then what it can't ask for is added, and what does not fit is taken away.
"""

from __future__ import annotations

import os

from . import protocol
from .device import MAX_WRITE

# libfuse reads requests by splice(2) from version 7.14 on, which sockets of packets can't.
_MINOR_WITHOUT_SPLICE = 13


class Agreement:
    """What the kernel can do and will do."""

    def __init__(self, *, live: bool, read_only: bool) -> None:
        self._live = live
        self._read_only = read_only
        self.untold_opens = False
        """The kernel opens files without asking (after OPEN got ENOSYS once)."""
        self.untold_opendirs = False
        """The same for directories."""
        self.writeback = False
        """The kernel gathers writes."""
        self.kills_set_id = False
        """The kernel says when set-id bits are to be cleared; without, it clears them itself."""

    def for_pyfuse3(self, request: bytes) -> bytes:
        """The request as pyfuse3 is to see it."""
        major, _, readahead, flags = protocol.INIT_IN.unpack_from(request, protocol.BODY)
        body = protocol.INIT_IN.pack(major, _MINOR_WITHOUT_SPLICE, readahead, flags)
        return request[: protocol.BODY] + body + request[protocol.BODY + len(body) :]

    def settle(self, request: bytes, answer: bytes) -> bytes:
        """The answer to the kernel (without header), made of pyfuse3's."""
        major, minor, readahead, offered = protocol.INIT_IN.unpack_from(request, protocol.BODY)
        *_, flags = protocol.INIT_IN.unpack_from(answer, protocol.OUT_HEADER.size)
        self.untold_opens = bool(
            offered & protocol.NO_OPEN_SUPPORT and not self._live and not self._read_only
        )
        self.untold_opendirs = bool(offered & protocol.NO_OPENDIR_SUPPORT and not self._live)
        flags = (flags | self._wanted()) & offered & ~self._refused()
        self.kills_set_id = bool(flags & protocol.HANDLE_KILLPRIV_V2)
        self.writeback = bool(flags & protocol.WRITEBACK_CACHE)
        # The answer has the form of the version that both know; 7.38 is the one we know.
        return protocol.INIT_OUT.pack(
            major,
            min(minor, 38),
            readahead,
            flags,
            0,
            0,
            MAX_WRITE,
            1,
            MAX_WRITE // os.sysconf("SC_PAGE_SIZE"),
            0,
            0,
        )

    def _wanted(self) -> int:
        flags = (
            protocol.ASYNC_READ
            | protocol.BIG_WRITES
            | protocol.DO_READDIRPLUS
            | protocol.READDIRPLUS_AUTO
            | protocol.PARALLEL_DIROPS
            | protocol.MAX_PAGES
            | protocol.HANDLE_KILLPRIV_V2
        )
        return flags if self._live else flags | protocol.CACHE_SYMLINKS

    def _refused(self) -> int:
        # Without the second version the kernel clears set-id bits itself, by SETATTR.
        flags = protocol.HANDLE_KILLPRIV
        flags |= protocol.SPLICE_READ | protocol.SPLICE_WRITE | protocol.SPLICE_MOVE
        if self.untold_opens:  # truncation has to be a request of its own
            flags |= protocol.ATOMIC_O_TRUNC
        if not self._live:  # nobody but the kernel changes anything: no need to look
            flags |= protocol.AUTO_INVAL_DATA
        return flags

"""The requests about reading directories, all of which our own loop answers."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from . import protocol
from .answers import Answers
from .device import Buffer, Handler
from .inodes import Dir, Node
from .listing import Listing, Listings
from .protocol import BODY

if TYPE_CHECKING:
    from .negotiation import Agreement
    from .state import Overlay

_TYPE_SHIFT = 12  # from S_IFMT to the DT_ of readdir(3)
_PADDING = bytes(8)
_CACHED = protocol.FOPEN_KEEP_CACHE | protocol.FOPEN_CACHE_DIR


class Directories:
    """Handlers; each gets the node id of the request and its size."""

    def __init__(
        self, overlay: Overlay, buffer: Buffer, answers: Answers, agreed: Agreement
    ) -> None:
        self._overlay = overlay
        self._nodes = overlay.table.nodes
        self._data = buffer.data
        self._answers = answers
        self._agreed = agreed
        self._listings = Listings()

    def handlers(self) -> dict[int, Handler]:
        """Which request is answered by which handler."""
        return {
            protocol.OPENDIR: self.opendir,
            protocol.READDIR: self.readdir,
            protocol.READDIRPLUS: self.readdirplus,
            protocol.RELEASEDIR: self.releasedir,
            protocol.FSYNCDIR: self.fsyncdir,
        }

    def _dir(self, node_id: int) -> Dir:
        node = self._nodes[node_id]
        if not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return node

    def opendir(self, node_id: int, size: int) -> bytes:
        if self._agreed.untold_opendirs:
            raise OSError(errno.ENOSYS, "no need to ask")
        live = self._overlay.config.live_lower and self._dir(node_id).lowers
        return protocol.OPEN_OUT.pack(0, 0 if live else _CACHED, 0)

    def releasedir(self, node_id: int, size: int) -> bytes:
        return b""

    def readdir(self, node_id: int, size: int) -> bytes:
        return self._read(node_id, plus=False)

    def readdirplus(self, node_id: int, size: int) -> bytes:
        return self._read(node_id, plus=True)

    def _read(self, node_id: int, *, plus: bool) -> bytes:
        """As many names after the given place as there is room for."""
        _, place, room, _ = protocol.READ_IN.unpack_from(self._data, BODY)
        node = self._dir(node_id)
        if place == 0:
            listing = self._listings.begin(self._overlay, node)
        else:
            listing = self._listings.go_on(self._overlay, node)
        head = protocol.DIRENT.size + (protocol.ENTRY_SIZE if plus else 0)
        parts: list[bytes] = []
        for number, (name, known) in enumerate(((b".", node), (b"..", node.parent or node))):
            if place <= number:
                room -= head + 8
                parts.append(self._dot(name, known, number + 1, plus=plus))
        for number in range(listing.after(place), len(listing.names)):
            found = listing.names[number]
            name = found[1]
            used = (head + len(name) + 7) & ~7
            if used > room:
                break
            if plus:
                entry = self._entry(listing, number)
            else:
                ino = listing.number_of(self._overlay, number)
                kind = found[4] >> _TYPE_SHIFT
                entry = protocol.DIRENT.pack(ino, found[0], len(name), kind) if ino else None
            if entry is not None:
                room -= used
                parts += (entry, name, _PADDING[: used - head - len(name)])
        if not parts:
            self._listings.drop(node_id)
        return b"".join(parts)

    def _entry(self, listing: Listing, number: int) -> bytes | None:
        told = listing.tell(self._overlay, number)
        if told is None:
            return None
        place, name, _, _, kind = listing.names[number]
        entry = self._answers.entry(*told)
        return entry + protocol.DIRENT.pack(told[0], place, len(name), kind >> _TYPE_SHIFT)

    def _dot(self, name: bytes, node: Node, place: int, *, plus: bool) -> bytes:
        """The names "." and "..", which give the kernel no reference."""
        kind = stat.S_IFDIR >> _TYPE_SHIFT
        entry = protocol.DIRENT.pack(node.id, place, len(name), kind)
        if plus:
            entry = bytes(protocol.ENTRY_SIZE) + entry
        return entry + name + _PADDING[len(name) :]

    def fsyncdir(self, node_id: int, size: int) -> bytes:
        node = self._dir(node_id)
        if node.upper is not None and not node.gone and not self._overlay.config.volatile:
            os.fsync(node.upper.open())
        return b""

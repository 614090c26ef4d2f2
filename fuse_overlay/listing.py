"""The names of merged directories, in an order that outlasts changes.

A name's place in a listing is the hash of its name, as in ext4 and others: who goes on from a
place finds every name that was there throughout, once, however the directory has changed since and
whether or not the listing is still kept.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from typing import TYPE_CHECKING

from . import lookup, whiteout
from .inodes import Dir
from .layers import LayerDir

if TYPE_CHECKING:
    from .lookup import Told
    from .state import Overlay

Name = tuple[int, bytes, LayerDir, int, int]
"""Place in the listing, name, the topmost real directory that has it, real inode number, S_IFMT."""

FIRST = 3  # the place of the first name: "." and ".." come before
_KEPT_NAMES = 100_000
_KEPT_LISTINGS = 64
_62_BITS = (1 << 62) - 1


def names(overlay: Overlay, node: Dir) -> list[Name]:
    """The names in a merged directory, without "." and ".."."""
    if node.gone:
        return []
    dirs = (node.upper, *node.lowers) if node.upper is not None else node.lowers
    if len(dirs) == 1:
        return _scan(dirs[0], set(), set())
    seen: set[bytes] = set()
    hidden: set[bytes] = set()
    found: list[Name] = []
    for here in dirs:
        found += _scan(here, seen, hidden)
        hidden |= here.marks().hidden
    return found


def _scan(here: LayerDir, seen: set[bytes], hidden: set[bytes]) -> list[Name]:
    """The names that one directory adds to those *seen* above and not *hidden* there."""
    if here.blank:
        return []
    here.check_readable()
    here.enter()
    with os.scandir(b".") as entries:
        read = list(entries)
    if here.found_marks is None:
        here.read_marks([entry.name for entry in read])
    marks = here.marks().names
    found: list[Name] = []
    for entry in read:
        name = entry.name
        if name in seen or name in hidden:
            continue
        kind = _kind(entry)
        if kind != stat.S_IFDIR:
            if name in marks:
                continue
            if here.hidden is not None and kind and here.hides(name):
                continue
        seen.add(name)
        if kind:
            place = (hash(name) & _62_BITS) + FIRST
            found.append((place, name, here, entry.inode(), kind))
    return found


def _kind(entry: os.DirEntry[bytes]) -> int:
    """S_IFMT of an entry; 0 for a whiteout."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_symlink():
        return stat.S_IFLNK
    st = entry.stat(follow_symlinks=False)
    return 0 if whiteout.is_whiteout(st) else stat.S_IFMT(st.st_mode)


class Listing:
    """The names of a directory as they were at one time, each looked up when it is read."""

    __slots__ = ("names", "node", "version")

    def __init__(self, overlay: Overlay, node: Dir) -> None:
        self.node = node
        self.version = node.version
        self.names = names(overlay, node)
        self.names.sort()

    def after(self, place: int) -> int:
        """The number of the first name beyond a place."""
        return bisect_right(self.names, place, key=_place) if place >= FIRST else 0

    def tell(self, overlay: Overlay, number: int) -> Told | None:
        """Look a name up for the kernel, which gets a reference; None if it is gone."""
        _, name, where, _, kind = self.names[number]
        try:
            if kind == stat.S_IFDIR or self.version != self.node.version:
                return lookup.enter(overlay, self.node, name)
            st = os.stat(
                name, dir_fd=where.fd if where.fd >= 0 else where.open(), follow_symlinks=False
            )
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(st.st_mode):
            return lookup.enter(overlay, self.node, name)
        return lookup.enter_file(overlay, self.node, name, where, st)

    def number_of(self, overlay: Overlay, number: int) -> int:
        """The inode number that the kernel would be told; 0 if the name is gone."""
        _, name, where, ino, _ = self.names[number]
        if not where.layer.upper and not where.nodes and self.version == self.node.version:
            node_id = overlay.table.plain_id(where.layer.device, ino)
            if node_id not in overlay.table.nodes:
                return node_id
        try:
            node = lookup.find_if_any(overlay, self.node, name)
        except FileNotFoundError:
            return 0
        if node is None:
            return 0
        overlay.table.drop_unused(node[0])
        return node[0].id


def _place(name: Name) -> int:
    return name[0]


class Listings:
    """The listings that are being read, oldest first; a few, as they can be made anew."""

    def __init__(self) -> None:
        self._kept: dict[int, Listing] = {}
        self._count = 0

    def begin(self, overlay: Overlay, node: Dir) -> Listing:
        """The listing for who reads from the start: what is there now."""
        live = overlay.config.live_lower and node.lowers
        listing = self._of(node)
        if listing is not None and listing.version == node.version and not live:
            return listing
        self.drop(node.id)
        return self._keep(Listing(overlay, node))

    def go_on(self, overlay: Overlay, node: Dir) -> Listing:
        """The listing for who has begun."""
        return self._of(node) or self._keep(Listing(overlay, node))

    def _of(self, node: Dir) -> Listing | None:
        listing = self._kept.get(node.id)
        if listing is not None and listing.node is not node:  # of a node that was forgotten
            self.drop(node.id)
            return None
        return listing

    def _keep(self, listing: Listing) -> Listing:
        self._kept[listing.node.id] = listing
        self._count += len(listing.names)
        while len(self._kept) > 1 and (
            self._count > _KEPT_NAMES or len(self._kept) > _KEPT_LISTINGS
        ):
            self.drop(next(iter(self._kept)))
        return listing

    def drop(self, node_id: int) -> None:
        """A listing has been read to its end."""
        listing = self._kept.pop(node_id, None)
        if listing is not None:
            self._count -= len(listing.names)

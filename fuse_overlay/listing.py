"""The names of merged directories."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from . import lookup, whiteout
from .inodes import Dir, Node
from .layers import LayerDir
from .listing_cache import LIMIT, Listed, Name

if TYPE_CHECKING:
    from .state import Overlay


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
    marks = here.marks().names
    found: list[Name] = []
    here.enter()
    with os.scandir(b".") as entries:
        for entry in entries:
            name = entry.name
            if name in seen or name in hidden:
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append((name, None))
            elif name in marks:
                continue
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                if here.hidden is not None and here.hides(name):
                    continue
                found.append((name, here))
            elif not _is_whiteout(entry):
                found.append((name, here))
            seen.add(name)
    return found


def _is_whiteout(entry: os.DirEntry[bytes]) -> bool:
    return whiteout.is_whiteout(entry.stat(follow_symlinks=False))


class Listing:
    """An open directory: the names as they were at the start, each looked up when it is read."""

    __slots__ = ("listed", "node")

    def __init__(self, node: Dir) -> None:
        self.node = node
        self.listed: Listed | None = None

    def begin(self, overlay: Overlay) -> Listed:
        """Take the names anew: at the first read and after rewinddir(3)."""
        node = self.node
        kept = node.listed
        if isinstance(kept, Listed) and kept.version == node.version:
            self.listed = kept
            return kept
        found = names(overlay, node)
        live = overlay.config.live_lower and bool(node.lowers)
        listed = Listed(node.version, found, keeps=not live and len(found) < LIMIT // 2)
        if listed.keeps:
            overlay.kept_listings.keep(node, listed)
        self.listed = listed
        return listed

    def entry(
        self, overlay: Overlay, listed: Listed, number: int
    ) -> tuple[Node, os.stat_result | None] | None:
        """The node of one name and its attributes, unless it has them ready; None if it is gone."""
        if listed.keeps:
            node = listed.nodes[number]
            if (
                node is not None
                and node.attr is not None
                and node.lookups > 0
                and listed.version == self.node.version
            ):
                return node, None
        found = self._look(overlay, listed, number)
        if listed.keeps and found is not None:
            listed.nodes[number] = found[0]
        return found

    def _look(
        self, overlay: Overlay, listed: Listed, number: int
    ) -> tuple[Node, os.stat_result] | None:
        name, where = listed.names[number]
        try:
            if where is None or listed.version != self.node.version:
                return lookup.find(overlay, self.node, name)
            st = os.stat(
                name, dir_fd=where.fd if where.fd >= 0 else where.open(), follow_symlinks=False
            )
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(st.st_mode):
            return lookup.find(overlay, self.node, name)
        return lookup.file_node(overlay, self.node, name, where, st)

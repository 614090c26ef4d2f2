"""The merged view of overlay directories without a mount, read-only: what lies at which name.

The overlay's own look-up is used, so whiteouts, opaque directories, redirects and hidden paths mean
here what they mean in a container. It changes the working directory of the process: the l*xattr
calls take no descriptor of a directory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from fuse_overlay import listing, lookup, whiteout
from fuse_overlay.config import Config
from fuse_overlay.inodes import ROOT, Dir
from fuse_overlay.layers import LayerDir
from fuse_overlay.lookup import Found
from fuse_overlay.state import Overlay

__all__ = ["Dirs", "Found", "LayerDir", "Merged"]

# The real directories that one directory of the view is merged from, topmost first.
Dirs = tuple[LayerDir, ...]


class Merged:
    """A view of *upper* over *lower* (the topmost first), or of the latter alone.

    With *host* the lowest is this machine's own root, of which *hidden* is not shown.
    """

    def __init__(
        self,
        upper: str | None,
        lower: Sequence[str],
        *,
        hidden: Sequence[str] = (),
        host: bool = False,
    ) -> None:
        self._overlay = Overlay(
            Config(
                lower=(*([] if upper is None else [upper]), *lower),
                upper=None,
                work=None,
                hidden=tuple(hidden),
                squash_overflow=host,
                world_readable_only=host,
            )
        )
        if upper is not None:
            # What a container made of its own is shown wherever it is.
            top = self._overlay.lowers[0]
            top.world_only = top.squash = False
            top.root.hidden = None
            top.root.settle()

    def close(self) -> None:
        for lower in self._overlay.lowers:
            with suppress(OSError):
                os.close(lower.root.fd)

    @property
    def root(self) -> Dirs:
        return self._overlay.root.lowers

    def root_of(self, number: int) -> LayerDir:
        """Return the root of one layer, 0 the topmost."""
        return self._overlay.lowers[number].root

    def below(self, number: int) -> Dirs:
        """Return the root of the view without the first *number* layers."""
        dirs: list[LayerDir] = []
        for layer in self._overlay.lowers[number:]:
            dirs.append(layer.root)
            if self.is_opaque(layer.root):
                break
        return tuple(dirs)

    def is_opaque(self, directory: LayerDir) -> bool:
        """Tell whether *directory* hides what lower layers have below it."""
        if whiteout.DOT_OPAQUE in directory.marks().names:
            return True
        descriptor = directory.open()
        return whiteout.is_opaque(descriptor, whiteout.list_xattrs(descriptor))

    def find(self, dirs: Dirs, name: bytes) -> Found | None:
        """Return what *name* in the merged *dirs* is, None when there is nothing."""
        if not dirs:
            return None
        found = lookup.search(self._overlay, dirs, name)
        if found is not None and not found.dirs and _hides(found.where, name):
            return None
        return found

    def names(self, dirs: Dirs) -> list[bytes]:
        """Return the names in the merged *dirs*, sorted."""
        if not dirs:
            return []
        node = Dir(ROOT, None, b"", None, dirs)
        return sorted(found[1] for found in listing.names(self._overlay, node))

    def node_id(self, status: os.stat_result) -> int:
        """Return the number by which the overlay's index of hard links knows a file of a lower."""
        return self._overlay.table.id_of(status)


def _hides(where: LayerDir, name: bytes) -> bool:
    return where.hidden is not None and where.hides(name)

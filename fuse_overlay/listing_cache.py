"""Listings kept for the next reader of a directory: the kernel can't be asked to (pyfuse3).

A kept listing has the names, their nodes and (in the nodes) the ready answers. It is good as long
as the directory's version is the one it was made at. The number of kept names is bounded, the
oldest listings make room.
"""

from __future__ import annotations

from collections import deque

from .inodes import Dir, Node
from .layers import LayerDir

LIMIT = 20_000

Name = tuple[bytes, LayerDir | None]
"""A name, and the layer's directory that has it; None if it is a directory itself."""


class Listed:
    """The names of a directory at one version of it, and the nodes as far as they are known."""

    __slots__ = ("keeps", "names", "nodes", "version")

    def __init__(self, version: int, names: list[Name], *, keeps: bool) -> None:
        self.version = version
        self.names = names
        self.keeps = keeps
        self.nodes: list[Node | None] = [None] * len(names) if keeps else []

    def drop(self) -> None:
        """Let the ready answers go."""
        for node in self.nodes:
            if node is not None:
                node.attr = None


class KeptListings:
    """The directories that have a kept listing, oldest first."""

    def __init__(self) -> None:
        self._dirs: deque[tuple[Dir, Listed]] = deque()
        self._count = 0

    def keep(self, node: Dir, listed: Listed) -> None:
        """Keep a listing, and drop others for it."""
        node.listed = listed
        self._dirs.append((node, listed))
        self._count += len(listed.names)
        while self._count > LIMIT:
            old, dropped = self._dirs.popleft()
            self._count -= len(dropped.names)
            dropped.drop()
            if old.listed is dropped:
                old.listed = None

"""What a step's process is told: where things are, and which trees it reads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sandbox.build.cache import StepCache
from sandbox.build.layers import EMPTY_DIFF_ID, Layer
from sandbox.build.patterns import IgnoreRules
from sandbox.build.tree import ContextTree, ImageTree
from sandbox.image.store import Store
from sandbox.linux.storage_userns import User
from sandbox.linux.trees import remove_tree
from sandbox.paths import Paths


class Place(Struct, frozen=True):
    """Whose build it is; the same for all its steps."""

    paths: Paths
    environ: dict[str, str]
    user: User
    epoch: int | None  # SOURCE_DATE_EPOCH
    now: float  # when the build began, seconds since the epoch
    use_cache: bool = True
    imported: dict[str, Layer] | None = None  # by --cache-from

    def store(self) -> Store:
        return Store(self.paths)

    def cache(self, store: Store) -> StepCache:
        return StepCache(store, enabled=self.use_cache, imported=self.imported or {})

    @property
    def moment(self) -> float:
        """When things of this build are said to be made."""
        return self.now if self.epoch is None else float(self.epoch)


class TreeSource(Struct, frozen=True):
    """A tree that a step reads: layers, or a directory."""

    lower: tuple[str, ...] = ()  # topmost first
    directory: str = ""  # instead: one of the user's, or of the build's own
    patterns: tuple[str, ...] = ()  # of .dockerignore

    @contextmanager
    def open(self) -> Iterator[ContextTree | ImageTree]:
        """Give the tree. The working directory may be another one afterwards."""
        tree: ContextTree | ImageTree
        if self.directory:
            tree = ContextTree(self.directory, IgnoreRules(self.patterns))
        else:
            tree = ImageTree(self.lower)
        try:
            yield tree
        finally:
            tree.close()
            os.chdir("/")


class Stepped(Struct, frozen=True):
    """What a step came to: a layer, none where nothing changed, and whether it was known."""

    key: str
    layer: Layer
    cached: bool

    @property
    def new_layer(self) -> Layer | None:
        return None if self.layer.diff_id == EMPTY_DIFF_ID else self.layer


@contextmanager
def scratch_directory(store: Store) -> Iterator[Path]:
    """Give a directory of the step's own, below the store's staging."""
    path = store.layout.staging / f"build-{secrets.token_hex(8)}"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        remove_tree(path)

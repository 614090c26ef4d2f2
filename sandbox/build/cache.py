"""What steps came to, by a key of all that they depend on: the instruction, the layers below, the
content of what is copied.

A record is written aside, synced and renamed, so that a crash leaves the old or the new one. Layers
of records are kept by the store until the records are removed (`sbx builder prune`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sandbox.build.layers import EMPTY_DIFF_ID, Layer
from sandbox.image import step_records
from sandbox.image.descriptor import parse_descriptor
from sandbox.image.store import Store


def key_of(*parts: Any) -> str:
    """Return the key for *parts*, which are what JSON takes."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class StepCache:
    """The records of a store, and those of images given with --cache-from."""

    def __init__(self, store: Store, *, enabled: bool = True, imported: dict[str, Layer]) -> None:
        self._store = store
        self._enabled = enabled
        self._imported = imported

    def find(self, key: str) -> Layer | None:
        """Return the layer of an earlier step; None when there is none or it is not whole."""
        if not self._enabled:
            return None
        layer = self._recorded(key) or self._imported.get(key)
        if layer is None or layer.diff_id == EMPTY_DIFF_ID:
            return layer
        if not self._store.blobs.has(layer.descriptor.digest):
            return None
        if not self._store.layers.has(layer.diff_id):
            self._store.layers.apply(layer.diff_id, layer.descriptor)
        return layer

    def _recorded(self, key: str) -> Layer | None:
        record = step_records.read(self._store.layout.root, key)
        if record is None:
            return None
        step_records.touch(self._store.layout.root, key)
        return Layer(record["diff_id"], parse_descriptor(record["layer"]))

    def put(self, key: str, layer: Layer) -> None:
        """Remember what a step came to."""
        record = {"diff_id": layer.diff_id, "layer": layer.descriptor.to_json()}
        step_records.write(self._store.layout.root, key, record)

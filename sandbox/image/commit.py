"""A new image from another and the changes that a container made: `sbx commit`, a step of a build.

It has the parent's layers and that of the container's upper (none for a step that changes no file),
the parent's history and one entry more, and the configuration that was asked for.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct

from sandbox.image.apply_layer import Applied
from sandbox.image.config import ConfigDocument, ImageConfig, format_time
from sandbox.image.image import Image
from sandbox.image.layer_diff import LayerDiff, Upper
from sandbox.image.platform import own_platform
from sandbox.image.reference import Reference
from sandbox.image.store import Store


class Change(Struct, frozen=True):
    """What the new image says of itself."""

    config: ImageConfig
    created_by: str = ""  # the command, as `sbx history` shows it
    comment: str = ""
    author: str = ""
    epoch: int | None = None  # SOURCE_DATE_EPOCH: the time of everything, at the latest


class Committed(Struct, frozen=True):
    """The new image, and what of the upper could not be part of it."""

    image: Image
    left_out: Applied


def commit(
    store: Store,
    parent: str | None,
    change: Change,
    upper: Upper | None = None,
    name: Reference | None = None,
) -> Committed:
    """Make an image of *parent* (a reference; None: an empty one) and the layer of *upper*.

    The upper must not change meanwhile; its `lower` are the parent's. Without a *name* the image is
    found by its id alone. Nothing half done is ever seen, and nothing is left of a failure.
    Threads run meanwhile, and the working directory changes: relative paths have to wait.
    Raises NotFound, StoreError.
    """
    left_out = Applied()
    with store.adding():
        base = ConfigDocument(own_platform()) if parent is None else store.document(parent)
        layers = () if parent is None else store.manifest(parent).layers
        diff_ids = base.diff_ids
        if upper is not None:
            diff = LayerDiff(upper, change.epoch, left_out)
            layer = store.layers.add(iter(diff))
            layers, diff_ids = (*layers, layer.descriptor), (*diff_ids, layer.diff_id)
        now = time.time() if change.epoch is None else float(change.epoch)
        document = ConfigDocument(
            base.platform,
            change.config,
            diff_ids,
            now,
            change.author or base.author,
            (*base.history, _entry(change, now, empty=upper is None)),
        )
        manifest = store.add_image(document, layers, name)
        return Committed(store.find(manifest.config.digest), left_out)


def _entry(change: Change, now: float, *, empty: bool) -> dict[str, Any]:
    value = {
        "created": format_time(now),
        "author": change.author,
        "created_by": change.created_by,
        "comment": change.comment,
        "empty_layer": empty,
    }
    return {key: item for key, item in value.items() if item}

"""Find and remove what no image leads to. References are derived each time, never stored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sandbox.image import locks, step_records
from sandbox.image.config import parse_config_document
from sandbox.image.content import Blobs
from sandbox.image.descriptor import INDEXES, Descriptor
from sandbox.image.image import Image
from sandbox.image.layers import Layers, tree_size
from sandbox.image.layout import Layout
from sandbox.image.manifest import parse_index, parse_manifest
from sandbox.linux.trees import remove_tree


class InUse(Struct, frozen=True):
    """What containers need, running or not."""

    images: frozenset[str] = frozenset()  # ids
    layers: frozenset[str] = frozenset()  # directories


def nothing_in_use() -> InUse:
    return InUse()


class Usage(Struct, frozen=True):
    """Disk space of all images."""

    images: int
    active: int  # images that containers use
    size: int
    reclaimable: int


def collect(layout: Layout, layers: Layers, in_use: Callable[[], InUse] = nothing_in_use) -> int:
    """Remove blobs and layers without an image, but no layer *in_use*; return the bytes freed.

    Waits for those who are adding, and asks *in_use* then. Raises StoreError, and removes nothing,
    when a document is damaged: what it leads to is not known then.
    """
    layout.create()
    with locks.exclusive(layout.content_lock):
        clear_staging(layout.staging)
        blobs, diff_ids = _reachable(layout)
        used = {os.path.basename(path) for path in in_use().layers}
        freed = 0
        for digest in layout.blobs.all():
            if digest not in blobs:
                path = layout.blobs.path(digest)
                freed += path.stat().st_size
                path.unlink()
        for name in layers.names():
            if name not in used and f"sha256:{name.partition('.')[0]}" not in diff_ids:
                freed += layer_bytes(layers.directory / name)
                layers.remove(name)
        return freed


def kept_by_steps(layout: Layout, layers: Layers) -> tuple[int, int]:
    """Return how many records of steps there are, and the bytes that nothing else keeps."""
    layout.create()
    blobs, diff_ids = _of_images(layout)
    size = count = 0
    for _, record in step_records.records(layout.root):
        count += 1
        digest, diff_id = record["layer"]["digest"], record["diff_id"]
        if digest not in blobs and layout.blobs.has(digest):
            size += layout.blobs.path(digest).stat().st_size
        if diff_id not in diff_ids:
            size += layers.size(diff_id)
        blobs.add(digest)
        diff_ids.add(diff_id)
    return count, size


def _reachable(layout: Layout) -> tuple[set[str], set[str]]:
    """Return the digests of all blobs and the diff_ids of all layers that are referred to.

    By images, that is what the index leads to, and by records of builds' steps.
    """
    blobs, diff_ids = _of_images(layout)
    for _, record in step_records.records(layout.root):
        blobs.add(record["layer"]["digest"])
        diff_ids.add(record["diff_id"])
    return blobs, diff_ids


def _of_images(layout: Layout) -> tuple[set[str], set[str]]:
    blobs: set[str] = set()
    diff_ids: set[str] = set()
    pending = list(layout.entries())
    while pending:
        entry = pending.pop()
        if entry.digest in blobs or not layout.blobs.has(entry.digest):
            continue  # an index may list platforms that were not fetched
        blobs.add(entry.digest)
        data = layout.blobs.read(entry.digest, "manifest")
        if entry.media_type in INDEXES:
            pending += parse_index(data)
            continue
        manifest = parse_manifest(entry, data)
        blobs.add(manifest.config.digest)
        blobs.update(layer.digest for layer in manifest.layers)
        diff_ids.update(_diff_ids(layout.blobs, manifest.config))
    return blobs, diff_ids


def _diff_ids(blobs: Blobs, config: Descriptor) -> tuple[str, ...]:
    return parse_config_document(blobs.read(config.digest, "image configuration")).diff_ids


def clear_staging(staging: Path) -> None:
    """Remove what a crash left (the content lock is held exclusive)."""
    for name in os.listdir(staging):
        remove_tree(staging / name)


def stored_bytes(layout: Layout) -> int:
    """Return the bytes of all blobs."""
    return sum(size for _, size in _blob_sizes(layout.blobs))


def _blob_sizes(blobs: Blobs) -> Iterator[tuple[str, int]]:
    try:
        entries = os.scandir(blobs.directory)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            yield entry.name, entry.stat(follow_symlinks=False).st_size


def usage(layout: Layout, images: Sequence[Image], in_use: InUse) -> Usage:
    """Return how much *images* (all of the store) take, packed and unpacked."""
    layers = {layer: layer_bytes(Path(layer)) for image in images for layer in image.lower}
    kept = {layer for image in images if image.id in in_use.images for layer in image.lower}
    active = sum(image.id in in_use.images for image in images)
    packed = stored_bytes(layout)
    unused = sum(size for layer, size in layers.items() if layer not in kept | in_use.layers)
    # Which blobs only unused images lead to is not worth reading all manifests for.
    return Usage(
        len(images), active, packed + sum(layers.values()), unused + (0 if active else packed)
    )


def layer_bytes(path: Path) -> int:
    """Return the bytes of an unpacked layer; 0 when it is not there."""
    try:
        return int(json.loads(path.with_name(path.name + ".json").read_bytes())["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return tree_size(path) if path.exists() else 0


def remove_store(layout: Layout) -> None:
    """Remove the store with all that is in it; waits for those who are adding."""
    if not layout.root.exists():
        return
    with locks.exclusive(layout.content_lock):
        (layout.root / "index.json").unlink(missing_ok=True)
        for name in os.listdir(layout.root):
            if name != layout.content_lock.name:
                remove_tree(layout.root / name)

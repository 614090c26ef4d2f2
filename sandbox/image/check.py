"""`system check`: does the store hold what its names promise? With repair, what can be mended is.

All blobs are read and hashed, so a disk that lost something is found. A damaged blob can't be made
anew: repair removes it and the names that need it, so that the next pull fetches it. Unpacked
layers are not compared with their blobs; without their directory they are unpacked at the next use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from msgspec import Struct

from sandbox.errors import SbxError, StoreError
from sandbox.image import garbage, locks
from sandbox.image.descriptor import Descriptor
from sandbox.image.manifest import read_config, read_manifest
from sandbox.image.names import full_name
from sandbox.image.platform import own_platform
from sandbox.image.store import Store


class Problem(Struct, frozen=True):
    """Something that is not as it should be."""

    what: str  # "image docker.io/library/debian:latest"
    detail: str
    repaired: str = ""  # what was done about it


def check(store: Store, *, repair: bool = False) -> list[Problem]:
    """Return all problems, after doing what *repair* says. Waits for those who are adding."""
    if not store.paths.storage.exists():
        return []
    store.layout.create()
    problems: list[Problem] = []
    with locks.exclusive(store.layout.content_lock):
        problems += _staging(store, repair)
        problems += _blobs(store, repair)
        problems += _images(store, repair)
    return problems


def _staging(store: Store, repair: bool) -> Iterator[Problem]:
    left = os.listdir(store.layout.staging)
    if left:
        if repair:
            garbage.clear_staging(store.layout.staging)
        yield Problem(
            "staging", f"{len(left)} things that a crash left", "removed" if repair else ""
        )


def _blobs(store: Store, repair: bool) -> Iterator[Problem]:
    for digest in store.blobs.all():
        hasher = hashlib.sha256()
        for chunk in store.blobs.chunks(digest):
            hasher.update(chunk)
        if f"sha256:{hasher.hexdigest()}" != digest:
            if repair:
                store.blobs.path(digest).unlink()
            yield Problem(f"blob {digest}", "has other content", "removed" if repair else "")


def _images(store: Store, repair: bool) -> Iterator[Problem]:
    """Check that all that index.json leads to is there; layers are unpacked when they are used."""
    doomed = set()
    for entry in store.layout.entries():
        try:
            _check_image(store, entry)
        except SbxError as err:
            doomed.add((entry.digest, entry.ref_name))
            yield Problem(
                f"image {full_name(entry) if entry.ref_name else entry.digest}",
                f"{err.message}: {err.detail}" if err.detail else err.message,
                "removed: pull or make it again" if repair else "",
            )
    if repair and doomed:
        store.layout.change(
            lambda entries: [e for e in entries if (e.digest, e.ref_name) not in doomed]
        )


def _check_image(store: Store, entry: Descriptor) -> None:
    manifest = read_manifest(store.blobs, entry, entry.platform or own_platform())
    read_config(store.blobs, manifest)
    for layer in manifest.layers:
        path = store.blobs.path(layer.digest)
        if not path.exists() or path.stat().st_size != layer.size:
            raise StoreError("layer missing from the store", detail=layer.digest)

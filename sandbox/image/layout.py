"""The OCI image layout on disk (image-layout.md): `oci-layout`, `index.json`, `blobs/`.

index.json is the only place where names are: a descriptor for each name of an image, annotated
with the reference in full, and one without annotation for an image without a name. What nothing
there leads to may be collected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sandbox.image import document, locks
from sandbox.image.content import Blobs, write_all
from sandbox.image.descriptor import OCI_INDEX, REF_NAME, Descriptor, parse_descriptor
from sandbox.paths import make_private

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MOST_INDEX_BYTES = 256 << 20  # our own file; a million names
Change = Callable[[Sequence[Descriptor]], Sequence[Descriptor]]


class Layout:
    """The files of one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root)
        self.staging = root / "staging"
        self.content_lock = root / "content.lock"
        self.index_lock = root / "index.lock"

    def create(self) -> None:
        """Make what is missing of the directories and files; cheap when all is there."""
        if (self.root / "index.json").exists():
            return
        make_private(self.root)
        for directory in (self.blobs.directory, self.staging, self.root / "layers"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.exclusive(self.index_lock):
            if not (self.root / "oci-layout").exists():
                replace(self.root / "oci-layout", _LAYOUT)
            if not (self.root / "index.json").exists():
                self._write([])

    def entries(self) -> list[Descriptor]:
        """Return what index.json lists. Raises StoreError when it is damaged."""
        return [parse_descriptor(item) for item in self._items()]

    def entries_beside(self, name: str) -> list[Descriptor]:
        """Return the entries of the image with this name in full; none when there is none.

        Quicker than `entries` where there are many images: only what is asked for is parsed.
        """
        items = self._items()
        digests = {i.get("digest") for i in items if _ref_name(i) == name}
        return [parse_descriptor(i) for i in items if i.get("digest") in digests] if digests else []

    def _items(self) -> list[dict[str, Any]]:
        try:
            data = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        value = document.parse_object(data, "index.json", most_bytes=_MOST_INDEX_BYTES)
        return document.objects(value.get("manifests"), "index.json")

    def change(self, change: Change) -> None:
        """Replace index.json by what *change* makes of its entries; nobody sees it half done."""
        self.create()
        with locks.exclusive(self.index_lock):
            before = self.entries()
            after = list(change(before))
            if after != before:
                self._write(after)

    def _write(self, entries: Sequence[Descriptor]) -> None:
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry.to_json() for entry in entries],
        }
        replace(self.root / "index.json", document.compact(index))


def _ref_name(item: dict[str, Any]) -> Any:
    annotations = item.get("annotations")
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None


def replace(path: Path, data: bytes) -> None:
    """Replace *path* so that a reader, also after a power cut, finds the old or the new."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(aside, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""The OCI image layout on disk (image-layout.md): `oci-layout`, `index.json`, `blobs/`.

index.json is the only place where names are: a descriptor for each name of an image, annotated
with the reference in full, and one without annotation for an image without a name. What nothing
there leads to may be collected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.image import document, locks
from sandbox.image.content import Blobs, write_all
from sandbox.image.descriptor import OCI_INDEX, Descriptor, parse_descriptor
from sandbox.paths import make_private

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
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
        try:
            data = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        value = document.parse_object(data, "index.json")
        return [parse_descriptor(item) for item in value.get("manifests") or []]

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

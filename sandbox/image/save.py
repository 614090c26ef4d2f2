"""`save`: images as one archive that docker, podman and skopeo load.

The archive is docker's present form: an OCI image layout with docker's `manifest.json` beside it.
Layers are written unpacked, as docker writes them and every version of it reads.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import Struct, structs

from sandbox.image import compression, document
from sandbox.image.content import BlobWriter
from sandbox.image.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sandbox.image.manifest import Manifest
from sandbox.image.reference import Reference
from sandbox.image.store import Store

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Saved(Struct, frozen=True):
    """An image to save and the names that it has in the archive."""

    manifest: Manifest
    diff_ids: tuple[str, ...]
    names: tuple[Reference, ...]


def save(store: Store, images: Sequence[Saved], output: IO[bytes]) -> None:
    """Write *images* to *output*, a stream. Raises StoreError."""
    with store.hold(), tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        archive = _Archive(store, tar)
        docker = [archive.add_image(image) for image in images]
        archive.add("oci-layout", _LAYOUT)
        archive.add("index.json", document.compact(archive.index()))
        archive.add("manifest.json", document.compact(docker))


class _Archive:
    """An archive being written; content that images share is written once."""

    def __init__(self, store: Store, tar: tarfile.TarFile) -> None:
        self._store = store
        self._tar = tar
        self._written: dict[str, Descriptor] = {}
        self._entries: list[Descriptor] = []

    def add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def add_image(self, image: Saved) -> dict[str, Any]:
        """Write what the image consists of; return its part of docker's manifest.json."""
        blobs = self._store.blobs
        config = self._document(
            blobs.read(image.manifest.config.digest, "image configuration"), OCI_CONFIG
        )
        pairs = zip(image.diff_ids, image.manifest.layers, strict=True)
        layers = [self._layer(diff_id, layer) for diff_id, layer in pairs]
        manifest = self._document(
            document.compact(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_MANIFEST,
                    "config": config.to_json(),
                    "layers": [layer.to_json() for layer in layers],
                }
            ),
            OCI_MANIFEST,
        )
        self._list(manifest, image.names)
        return {
            "Config": _path(config.digest),
            "RepoTags": [name.familiar for name in image.names] or None,
            "Layers": [_path(layer.digest) for layer in layers],
        }

    def index(self) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry.to_json() for entry in self._entries],
        }

    def _list(self, manifest: Descriptor, names: Sequence[Reference]) -> None:
        # containerd's annotation holds the whole name, which docker reads first.
        for name in names:
            annotations = {
                "io.containerd.image.name": str(name),
                "org.opencontainers.image.ref.name": name.tag or "latest",
            }
            self._entries.append(structs.replace(manifest, annotations=annotations))
        if not names:
            self._entries.append(manifest)

    def _document(self, data: bytes, media_type: str) -> Descriptor:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if digest not in self._written:
            self.add(_path(digest), data)
            self._written[digest] = Descriptor(media_type, digest, len(data))
        return self._written[digest]

    def _layer(self, diff_id: str, layer: Descriptor) -> Descriptor:
        """Write a layer unpacked: its digest is then its diff_id."""
        known = self._written.get(diff_id)
        if known:
            return known
        with self._store.blobs.writer() as writer:
            path = _unpack(self._unpacked(layer), writer)
            writer.expect(diff_id)
            info = tarfile.TarInfo(_path(diff_id))
            info.size = writer.size
            with open(path, "rb") as file:
                self._tar.addfile(info, file)
            self._written[diff_id] = Descriptor(OCI_LAYER, diff_id, writer.size)
        return self._written[diff_id]

    def _unpacked(self, layer: Descriptor) -> Iterator[bytes]:
        kind, chunks = compression.detect(self._store.blobs.chunks(layer.digest))
        return compression.decompress(chunks, kind)


def _unpack(chunks: Iterator[bytes], writer: BlobWriter) -> Path:
    """Write *chunks* aside: a tar header has to say the size before the content."""
    for chunk in chunks:
        writer.write(chunk)
    return writer.path


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")

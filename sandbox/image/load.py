"""`load`: images from an archive that docker, podman, skopeo or sbx saved.

docker's archive (`manifest.json`, its layers anywhere in the archive, maybe linked) and an OCI
image layout in a tar are understood, packed or not. The archive is read once, from a pipe too; its
members are stored as blobs, and the documents at its end say what they are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

from sandbox.errors import StoreError
from sandbox.image import compression, document
from sandbox.image.apply_layer import printable
from sandbox.image.config import parse_config_document
from sandbox.image.content import Blobs
from sandbox.image.descriptor import (
    INDEXES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    REF_NAME,
    Descriptor,
    parse_descriptor,
)
from sandbox.image.limits import Counted, LayerLimits, bounded
from sandbox.image.manifest import Manifest, parse_manifest, read_config, read_manifest
from sandbox.image.names import name_for
from sandbox.image.platform import own_platform
from sandbox.image.reference import Reference, is_digest
from sandbox.image.store import Store
from sandbox.image.tar_stream import TarStream

_MOST_MEMBERS = 100_000
_MOST_NAME = 4096
_DOCUMENTS = ("manifest.json", "index.json")
_SUFFIX: dict[compression.Compression, str] = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}


class Loaded(Struct, frozen=True):
    """An image that is in the store now."""

    id: str
    names: tuple[Reference, ...]


class _Members(Struct):
    """What an archive holds: each file as a stored blob, and which names link to which."""

    blobs: dict[str, tuple[str, int]] = field(default_factory=dict)  # name → digest, size
    links: dict[str, str] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)

    def find(self, name: str) -> tuple[str, int]:
        """Return digest and size of a member. Raises StoreError."""
        path = posixpath.normpath(name)
        for _ in range(8):
            if path in self.blobs:
                return self.blobs[path]
            path = self.links.get(path, "")
        raise StoreError("damaged image archive", detail=f"{printable(name.encode())} is missing")


def load(store: Store, chunks: Iterator[bytes]) -> list[Loaded]:
    """Store, unpack and name the archive's images. Raises StoreError."""
    with store.adding():
        members = _read(store.blobs, chunks)
        if "manifest.json" in members.documents:
            return _load_docker(store, members)
        if "index.json" in members.documents:
            return _load_layout(store, members)
    raise StoreError(
        "not an image archive",
        detail="it has neither manifest.json nor index.json",
        hint="for a root file system: sbx import FILE NAME",
    )


def _read(blobs: Blobs, chunks: Iterator[bytes]) -> _Members:
    """Store every file of the archive as a blob; what no image needs is collected later."""
    kind, chunks = compression.detect(chunks)
    if kind != "none":
        packed = Counted(chunks)
        unpacked = compression.decompress(packed, kind)
        chunks = bounded(unpacked, LayerLimits(), lambda: packed.size)
    members = _Members()
    stream = TarStream(chunks)
    for number, entry in enumerate(stream):
        if number > _MOST_MEMBERS or len(entry.name) > _MOST_NAME:
            raise StoreError("image archive refused", detail="too many members")
        name = posixpath.normpath(entry.name.decode("utf-8", "surrogateescape"))
        if entry.kind in ("symlink", "link"):
            target = entry.link.decode("utf-8", "surrogateescape")
            base = posixpath.dirname(name) if entry.kind == "symlink" else ""
            members.links[name] = posixpath.normpath(posixpath.join(base, target))
        elif entry.kind == "file" and name in _DOCUMENTS:
            if entry.size > document.MOST_BYTES:
                raise StoreError("image archive refused", detail=f"{name} is too large")
            members.documents[name] = b"".join(stream.data())
        elif entry.kind == "file":
            with blobs.writer() as writer:
                for view in stream.data():
                    writer.write(view)
                members.blobs[name] = (writer.commit(), writer.size)
    return members


def _load_docker(store: Store, members: _Members) -> list[Loaded]:
    """Docker's manifest.json: a list of {Config, RepoTags, Layers}."""
    what = "manifest.json"
    data = b'{"images":' + members.documents[what] + b"}"
    images = document.objects(document.parse_object(data, what).get("images"), what)
    return [_load_docker_image(store, members, image) for image in images]


def _load_docker_image(store: Store, members: _Members, image: dict[str, Any]) -> Loaded:
    what = "manifest.json"
    digest, size = members.find(document.text(image.get("Config"), what))
    names = document.texts(image.get("RepoTags"), what)
    config = parse_config_document(store.blobs.read(digest, "image configuration"))
    layers = tuple(
        _layer(store.blobs, members.find(path))
        for path in document.texts(image.get("Layers"), what)
    )
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor(OCI_CONFIG, digest, size).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    stored = store.blobs.put(document.compact(value), OCI_MANIFEST)
    descriptor = Descriptor(stored.media_type, stored.digest, stored.size, platform=config.platform)
    return _finish(store, descriptor, parse_names(names))


def _layer(blobs: Blobs, member: tuple[str, int]) -> Descriptor:
    digest, size = member
    kind, _ = compression.detect(blobs.chunks(digest))
    if kind not in _SUFFIX:
        raise StoreError("layer refused", detail=f"packed with {kind}")
    return Descriptor(OCI_LAYER + _SUFFIX[kind], digest, size)


def _load_layout(store: Store, members: _Members) -> list[Loaded]:
    """An OCI layout: index.json lists the images."""
    value = document.parse_object(members.documents["index.json"], "index.json")
    loaded: dict[str, Loaded] = {}
    for item in document.objects(value.get("manifests"), "index.json"):
        entry = parse_descriptor(item)
        name = entry.annotations.get("io.containerd.image.name") or entry.annotations.get(REF_NAME)
        # Tools write a bare tag there too; that alone is no name.
        names = parse_names([name]) if name and (":" in name or "/" in name) else ()
        bare = Descriptor(
            entry.media_type, entry.digest, entry.size, platform=entry.platform or own_platform()
        )
        done = _finish(store, bare, names)
        before = loaded.get(done.id)
        loaded[done.id] = Loaded(done.id, (before.names if before else ()) + done.names)
    return list(loaded.values())


def _finish(store: Store, descriptor: Descriptor, names: tuple[Reference, ...]) -> Loaded:
    """Verify and unpack an image whose blobs are stored, then name it."""
    manifest = _manifest(store.blobs, descriptor)
    store.unpack(manifest, read_config(store.blobs, manifest))
    for name in names or (None,):
        store.name(descriptor, name)
    return Loaded(manifest.config.digest, names)


def _manifest(blobs: Blobs, descriptor: Descriptor) -> Manifest:
    if descriptor.media_type in INDEXES:
        return read_manifest(blobs, descriptor, descriptor.platform or own_platform())
    return parse_manifest(descriptor, blobs.read(descriptor.digest, "manifest"))


def parse_names(names: tuple[str, ...] | list[str]) -> tuple[Reference, ...]:
    """Return the archive's names; digests in them mean nothing here. Raises InvalidSpec."""
    found = []
    for name in names:
        bare = name.partition("@")[0] if is_digest(name.partition("@")[2]) else name
        found.append(name_for(bare))
    return tuple(found)

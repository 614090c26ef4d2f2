"""Manifests (OCI manifest.md, docker's schema 2): from a descriptor to a config and its layers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sandbox.errors import StoreError
from sandbox.image import document
from sandbox.image.config import ConfigDocument, parse_config_document
from sandbox.image.content import Blobs
from sandbox.image.descriptor import (
    CONFIGS,
    INDEXES,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Platform,
    parse_descriptor,
)
from sandbox.image.platform import choose

_MOST_NESTED = 4  # indexes of indexes


class Manifest(Struct, frozen=True):
    """One platform's image."""

    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]  # the lowest first


def parse_manifest(descriptor: Descriptor, data: bytes) -> Manifest:
    """Return the manifest in *data*. Raises StoreError."""
    value = document.parse_object(data, "manifest")
    if value.get("schemaVersion") != 2:
        raise StoreError("manifest refused", detail="not of schema version 2")
    config = parse_descriptor(value.get("config"))
    if config.media_type not in CONFIGS:
        raise StoreError(
            "not a container image", detail=f"its config is {config.media_type[:120]!r}"
        )
    layers = tuple(parse_descriptor(v) for v in document.objects(value.get("layers"), "manifest"))
    return Manifest(descriptor, config, layers)


def parse_index(data: bytes) -> list[Descriptor]:
    """Return the manifests that an index lists. Raises StoreError."""
    value = document.parse_object(data, "image index")
    return [parse_descriptor(v) for v in document.objects(value.get("manifests"), "image index")]


def read_manifest(blobs: Blobs, descriptor: Descriptor, platform: Platform) -> Manifest:
    """Return what *descriptor* leads to for *platform*. Raises StoreError, NotFound."""
    for _ in range(_MOST_NESTED):
        data = blobs.read(descriptor.digest, "manifest")
        if descriptor.media_type not in INDEXES:
            return parse_manifest(descriptor, data)
        descriptor = choose(parse_index(data), platform)
    raise StoreError("damaged image index", detail="indexes nested too deep")


def read_config(blobs: Blobs, manifest: Manifest) -> ConfigDocument:
    """Return the manifest's config. Raises StoreError when it does not fit the layers."""
    config = parse_config_document(blobs.read(manifest.config.digest, "image configuration"))
    if len(config.diff_ids) != len(manifest.layers):
        raise StoreError(
            "damaged image",
            detail=f"{len(manifest.layers)} layers, {len(config.diff_ids)} diff_ids",
        )
    return config


def write_image(
    blobs: Blobs, config: dict[str, Any], layers: tuple[Descriptor, ...], platform: Platform
) -> Manifest:
    """Store the config and a manifest for *layers*; both are durable."""
    written = blobs.put(document.compact(config), OCI_CONFIG)
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": written.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    stored = blobs.put(document.compact(value), OCI_MANIFEST)
    descriptor = Descriptor(stored.media_type, stored.digest, stored.size, {}, platform)
    return Manifest(descriptor, written, layers)

"""Typed pointers to content (OCI image specification, descriptor.md) and the media types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from sandbox.errors import StoreError
from sandbox.image.reference import is_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

REF_NAME = "org.opencontainers.image.ref.name"

_MOST_BYTES = 1 << 46


class Platform(Struct, frozen=True):
    """What a manifest's programs run on, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(Struct, frozen=True):
    """A pointer to a blob: its type, the digest of its bytes and their number."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()

    @property
    def ref_name(self) -> str | None:
        return self.annotations.get(REF_NAME)

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform:
            value["platform"] = {
                "architecture": self.platform.architecture,
                "os": self.platform.os,
            }
            if self.platform.variant:
                value["platform"]["variant"] = self.platform.variant
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.urls:
            value["urls"] = list(self.urls)
        return value


def parse_descriptor(value: Any) -> Descriptor:
    """Return the descriptor that a document holds. Raises StoreError for anything else."""
    if not isinstance(value, dict):
        raise StoreError("damaged descriptor", detail=f"not an object: {value!r:.80}")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
    if not isinstance(digest, str) or not is_digest(digest):
        raise StoreError("damaged descriptor", detail=f"not a sha256 digest: {digest!r:.80}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
        raise StoreError("damaged descriptor", detail=f"not a size: {size!r:.80}")
    if not isinstance(media_type, str):
        raise StoreError("damaged descriptor", detail=f"not a media type: {media_type!r:.80}")
    annotations = value.get("annotations")
    urls = value.get("urls")
    return Descriptor(
        media_type,
        digest,
        size,
        {k: v for k, v in annotations.items() if isinstance(v, str)}
        if isinstance(annotations, dict)
        else {},
        parse_platform(value.get("platform")),
        tuple(u for u in urls if isinstance(u, str)) if isinstance(urls, list) else (),
    )


def parse_platform(value: Any) -> Platform | None:
    if not isinstance(value, dict):
        return None
    words = [value.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(word, str) for word in words):
        return None
    return Platform(*words)

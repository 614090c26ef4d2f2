"""An image as the rest of sbx sees it."""

from __future__ import annotations

from msgspec import Struct

from sandbox.image.config import ImageConfig
from sandbox.image.descriptor import Platform


class Image(Struct, frozen=True):
    """An image that containers can start from."""

    id: str  # "sha256:…", the digest of its config; "" for `host`
    names: tuple[str, ...]  # in full: "docker.io/library/debian:latest"
    config: ImageConfig
    lower: tuple[str, ...]  # layer directories, topmost first
    created: float | None  # seconds since the epoch; None: the image does not say
    size: int  # bytes of all files when unpacked
    hidden: tuple[str, ...] = ()  # paths of the lower that are not shown (`host` only)
    builtin: bool = False
    digest: str = ""  # of the manifest
    platform: Platform | None = None
    history: tuple[dict[str, object], ...] = ()

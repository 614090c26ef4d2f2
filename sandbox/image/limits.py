"""What one layer may take before it counts as a bomb."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from msgspec import Struct

from sandbox.errors import StoreError

_LEFT_FREE = 0.02  # part of the file system that no image may take
_RATIO_COUNTS_FROM = 256 << 20  # small layers of zeros are nobody's bomb


class LayerLimits(Struct, frozen=True):
    """Bounds for one layer; real images stay far below."""

    size: int = 256 << 30  # bytes when unpacked
    entries: int = 2_000_000
    ratio: int = 400  # unpacked to packed; gzip alone can make 1000 of it


def check_free_space(descriptor: int) -> None:
    """Raise StoreError when *descriptor*'s file system is nearly full."""
    status = os.fstatvfs(descriptor)
    if status.f_bavail < status.f_blocks * _LEFT_FREE:
        raise StoreError(
            "no space left for images",
            detail=f"{status.f_bavail * status.f_frsize >> 20} MiB are free",
            hint="sbx system prune --all",
        )


def bounded(
    chunks: Iterator[bytes], limits: LayerLimits, packed: Callable[[], int]
) -> Iterator[bytes]:
    """Pass unpacked *chunks* on. Raises StoreError once they are more than *limits* allow.

    *packed* says how many packed bytes were read so far.
    """
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limits.size:
            raise StoreError("layer refused", detail=f"it unpacks to more than {limits.size} bytes")
        if size > _RATIO_COUNTS_FROM and size > limits.ratio * max(packed(), 1):
            raise StoreError(
                "layer refused",
                detail=f"it unpacks to more than {limits.ratio} times its own size",
            )
        yield chunk


class Counted:
    """Iterates over chunks and counts their bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.size += len(chunk)
        return chunk

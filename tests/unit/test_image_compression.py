"""Packed streams are recognised and unpacked in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import StoreError
from sandbox.image.compression import decompress, detect
from sandbox.image.limits import LayerLimits, bounded
from tests.archives import chunked

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: b"x" + data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def unpack(data: bytes, size: int = 100) -> tuple[str, bytes]:
    kind, chunks = detect(iter(chunked(data, size)()))
    return kind, b"".join(decompress(chunks, kind))


@pytest.mark.parametrize("kind", PACKERS)
@given(data=st.binary(max_size=3000), size=st.integers(1, 500))
def test_what_was_packed_comes_out_again(kind: str, data: bytes, size: int) -> None:
    """Each format is recognised by its first bytes, however the stream is cut."""
    found, unpacked = unpack(PACKERS[kind](data), size)

    assert found == kind
    assert unpacked.removeprefix(b"x" if kind == "none" else b"") == data


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_streams_of_several_members_are_one(kind: str) -> None:
    """What pigz, pbzip2, pixz and pzstd write is read to its end."""
    packed = PACKERS[kind](b"one ") + PACKERS[kind](b"two")

    assert unpack(packed, 7) == (kind, b"one two")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_stream_cut_short_is_refused(kind: str) -> None:
    """A download that ended too early is never taken for the whole."""
    packed = PACKERS[kind](bytes(range(256)) * 100)

    with pytest.raises(StoreError):
        unpack(packed[:-5])


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_damaged_stream_is_refused(kind: str) -> None:
    """Flipped bytes are an error, not content."""
    packed = bytearray(PACKERS[kind](bytes(range(256)) * 100))
    for at in range(len(packed) // 3, len(packed)):
        packed[at] ^= 0xFF

    with pytest.raises(StoreError):
        unpack(bytes(packed))


def test_a_small_stream_gives_its_memory_in_steps() -> None:
    """A bomb is unpacked two megabytes at a time."""
    bomb = gzip.compress(bytes(64 << 20))
    kind, chunks = detect(iter([bomb]))

    assert max(len(chunk) for chunk in decompress(chunks, kind)) <= 2 << 20


def test_a_bomb_is_refused_by_its_ratio() -> None:
    """Far more bytes than the packed stream could mean are refused before they fill the disk."""
    zeros = iter([bytes(1 << 20)] * 10_000)

    with pytest.raises(StoreError, match="layer refused"):
        for _ in bounded(zeros, LayerLimits(), lambda: 1 << 16):
            pass


def test_a_bomb_is_refused_by_its_size() -> None:
    """A layer may not be larger than the limit."""
    with pytest.raises(StoreError, match="layer refused"):
        list(bounded(iter([bytes(1000)] * 20), LayerLimits(size=10_000), lambda: 10_000))

"""Compressed streams: recognised by their first bytes, unpacked in bounded memory.

Formats: gzip (RFC 1952), zstd (RFC 8878), bzip2, xz. All may consist of several members. gzip is
done by ISA-L where it is installed: twice as quick as zlib at unpacking, four times at packing.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any, Literal, Protocol

from sandbox.errors import StoreError, Unavailable

Compression = Literal["none", "gzip", "zstd", "bzip2", "xz"]

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_LONGEST_MAGIC = max(len(magic) for magic, _ in _MAGIC)
_OUTPUT = 2 << 20  # bytes that one step may unpack
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW = 128 << 20  # what `zstd --long` uses; more has to be asked for there too


def detect(chunks: Iterator[bytes]) -> tuple[Compression, Iterator[bytes]]:
    """Return how *chunks* are compressed, and the same chunks again."""
    start = b""
    while len(start) < _LONGEST_MAGIC:
        chunk = next(chunks, b"")
        if not chunk:
            break
        start += chunk
    kind: Compression = next((k for magic, k in _MAGIC if start.startswith(magic)), "none")
    return kind, chain((start,) if start else (), chunks)


def decompress(chunks: Iterator[bytes], kind: Compression) -> Iterator[bytes]:
    """Yield the unpacked bytes of *chunks*. Raises StoreError when they are damaged."""
    try:
        if kind == "none":
            yield from chunks
        elif kind == "gzip":
            yield from _gunzip(chunks)
        elif kind == "zstd":
            yield from _unzstd(chunks)
        else:
            yield from _members(chunks, kind)
    except (zlib.error, _gzip().error, lzma.LZMAError, OSError, EOFError) as err:
        raise StoreError(f"damaged {kind} stream", detail=str(err)) from err


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = _gzip().decompressobj(wbits=31)
    begun = False
    for chunk in chunks:
        data = chunk
        while data:
            if inflate.eof:
                # Zeros after the last member are padding (gzip(1) ignores them).
                data = data.lstrip(b"\0")
                if not data:
                    break
                inflate = _gzip().decompressobj(wbits=31)
            begun = True
            output = inflate.decompress(data, _OUTPUT)
            if output:
                yield output
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if begun and not inflate.eof:
        raise EOFError("the stream ends too early")


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _members(chunks: Iterator[bytes], kind: Compression) -> Iterator[bytes]:
    member = _new_member(kind)
    for chunk in chunks:
        data = chunk
        while True:
            if member.eof:
                data = (member.unused_data + data).lstrip(b"\0")
                if not data:
                    break
                member = _new_member(kind)
            output = member.decompress(data, _OUTPUT)
            data = b""
            if output:
                yield output
            if member.needs_input and not member.eof:
                break
            if member.eof and not member.unused_data:
                break
    if not member.eof:
        raise EOFError("the stream ends too early")


def _new_member(kind: Compression) -> _Decompressor:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


class _ChunkFile:
    """Chunks as a file: what the zstd library reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int) -> bytes:
        if not self._left:
            self._left = next(self._chunks, b"")
        data, self._left = self._left[:size], self._left[size:]
        return data


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack zstd frames.

    The library's reader ends quietly when the stream does so within a frame. A frame of our own is
    put behind the stream: if its content does not come out at the end, something was missing.
    """
    zstd = _zstandard()
    mark = os.urandom(32)
    whole = chain(chunks, (zstd.ZstdCompressor().compress(mark),))
    decompressor = zstd.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    reader = decompressor.stream_reader(
        _ChunkFile(whole), read_size=_OUTPUT, read_across_frames=True, closefd=False
    )
    tail = b""
    try:
        while data := reader.read(_OUTPUT):
            data = tail + data
            if len(data) > len(mark):
                yield data[: -len(mark)]
            tail = data[-len(mark) :]
    except zstd.ZstdError as err:
        raise EOFError(str(err)) from err
    if tail != mark:
        raise EOFError("the stream ends too early")


class GzipCompressor:
    """Packs what is written with gzip: every tool and registry reads it."""

    def __init__(self) -> None:
        self._object = _gzip().compressobj(1, wbits=31)

    def compress(self, data: bytes) -> bytes:
        result: bytes = self._object.compress(data)
        return result

    def flush(self) -> bytes:
        result: bytes = self._object.flush()
        return result


@cache
def _gzip() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as err:
        raise Unavailable(
            "zstd is not available", hint="install the Python package zstandard"
        ) from err
    return zstandard

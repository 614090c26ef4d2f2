"""Blobs: bytes named by their digest, below `blobs/sha256` (OCI image-layout.md).

A blob is written aside, hashed on the way, and renamed when it is whole: what lies in `blobs` has
the content that its name says, also after kill -9. Small documents are fsynced, layers are not:
after a power cut `sbx system check` finds what the disk lost.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import StoreError
from sandbox.image import document
from sandbox.image.descriptor import Descriptor

CHUNK = 1 << 20


class BlobWriter:
    """A blob being written: see `Blobs.writer`."""

    def __init__(self, path: Path, final: Path) -> None:
        self.path = path  # until it is committed
        self._final = final
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)
        write_all(self._fd, data)

    def restart(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def expect(self, digest: str) -> None:
        """Raise StoreError when what was written is not what *digest* names."""
        if self.digest != digest:
            raise StoreError(
                "content refused: wrong digest",
                detail=f"expected {digest}\nreceived {self.digest}",
            )

    def commit(self, *, expected: str | None = None, durable: bool = False) -> str:
        """Name the blob by its digest and return that.

        Raises StoreError when it is not the *expected* one.
        """
        digest = self.digest
        if expected is not None:
            self.expect(expected)
        if durable:
            os.fsync(self._fd)
        os.rename(self.path, self._final / digest.removeprefix("sha256:"))
        return digest

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink(missing_ok=True)


class Blobs:
    """All blobs of a store."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs" / "sha256"
        self.staging = root / "staging"

    def path(self, digest: str) -> Path:
        return self.directory / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Give a writer; what it has not committed at the end is gone."""
        writer = BlobWriter(self.staging / f"blob-{os.urandom(8).hex()}", self.directory)
        try:
            yield writer
        finally:
            writer.close()

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small document."""
        with self.writer() as writer:
            writer.write(data)
            return Descriptor(media_type, writer.commit(durable=True), len(data))

    def read(self, digest: str, what: str) -> bytes:
        """Return a small document, verified. Raises StoreError when it is missing or damaged."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read(document.MOST_BYTES + 1)
        except FileNotFoundError:
            raise StoreError(
                f"{what} missing from the store", detail=digest, hint="sbx system check"
            ) from None
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"damaged {what}", detail=digest, hint="sbx system check --repair")
        return data

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield the bytes of a large blob. Raises StoreError when it is missing."""
        try:
            file = open(self.path(digest), "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            raise StoreError(
                "layer missing from the store", detail=digest, hint="sbx system check"
            ) from None
        with file:
            yield from file_chunks(file.fileno())

    def all(self) -> list[str]:
        """Return the digests of all blobs."""
        return [f"sha256:{name}" for name in os.listdir(self.directory) if len(name) == 64]


def file_chunks(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, CHUNK):
        yield data


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])

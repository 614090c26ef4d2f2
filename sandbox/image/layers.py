"""Layers on disk: each diff_id once, in the overlay's format, shared by all images.

`layers/HEX` is complete as soon as it is there: it is written below `staging/` and renamed. Its
unpacked size lies beside it in `layers/HEX.json`. Where owners can only be recorded (a single id),
the directory is `layers/HEX.recorded`: a user who gets subordinate ids later needs another one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from sandbox.errors import StoreError
from sandbox.image import compression
from sandbox.image.apply_layer import Applied, apply_layer
from sandbox.image.content import Blobs, BlobWriter
from sandbox.image.descriptor import OCI_LAYER, Descriptor
from sandbox.image.limits import Counted, LayerLimits, bounded
from sandbox.image.ownership import available_ownership
from sandbox.image.pipeline import hashed, read_ahead, teed
from sandbox.image.tar_stream import TarStream
from sandbox.linux.trees import remove_tree

_RECORDED = ".recorded"


class NewLayer(Struct, frozen=True):
    """A layer that was just applied and stored."""

    descriptor: Descriptor
    diff_id: str
    applied: Applied


class Layers:
    """The unpacked layers of a store."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self.directory = root / "layers"
        self.staging = root / "staging"
        self.blobs = blobs
        self.ownership = available_ownership()
        self._suffix = _RECORDED if self.ownership == "recorded" else ""
        self.limits = LayerLimits()

    def path(self, diff_id: str) -> Path:
        return self.directory / (diff_id.removeprefix("sha256:") + self._suffix)

    def has(self, diff_id: str) -> bool:
        return self.path(diff_id).exists()

    def size(self, diff_id: str) -> int:
        """Return the bytes of the layer's files; 0 for one that is not unpacked."""
        try:
            value = json.loads(self._sidecar(self.path(diff_id)).read_bytes())["size"]
            return int(value)
        except (OSError, ValueError, KeyError, TypeError):
            path = self.path(diff_id)
            return tree_size(path) if path.exists() else 0

    def apply(self, diff_id: str, descriptor: Descriptor) -> Applied:
        """Unpack the stored blob of a layer, unless it is there.

        Raises StoreError when it is refused, damaged, or not the content that *diff_id* names.
        """
        if self.has(diff_id):
            return Applied()
        kind, packed = compression.detect(self.blobs.chunks(descriptor.digest))
        diff = hashlib.sha256()
        with self._unpacking(hashed(self._unpacked(packed, kind), diff)) as (applied, staged):
            found = "sha256:" + diff.hexdigest()
            if found != diff_id:
                raise StoreError(
                    "layer refused: wrong content",
                    detail=f"expected diff_id {diff_id}\nunpacked {found}",
                    hint="sbx system check --repair",
                )
            self._publish(staged, diff_id, applied)
        return applied

    def add(self, chunks: Iterator[bytes]) -> NewLayer:
        """Store and unpack a layer that comes as a tar archive, packed or not.

        gzip and zstd are kept as they are; what is not packed, or in a way that OCI has no media
        type for, is packed with gzip. (zstd would be as quick, but tools that make docker's
        formats of an image refuse it.)
        """
        kind, chunks = compression.detect(chunks)
        diff = hashlib.sha256()
        with self.blobs.writer() as writer:
            packer = None
            if kind in ("gzip", "zstd"):
                unpacked = self._unpacked(teed(chunks, writer.write), kind)
            else:
                packer = _Packer(writer)
                unpacked = teed(self._unpacked(chunks, kind), packer.write)
            with self._unpacking(hashed(unpacked, diff)) as (applied, staged):
                if packer:
                    packer.finish()
                diff_id = "sha256:" + diff.hexdigest()
                suffix = "+zstd" if kind == "zstd" else "+gzip"
                digest = writer.commit()
                self._publish(staged, diff_id, applied)
        return NewLayer(Descriptor(OCI_LAYER + suffix, digest, writer.size), diff_id, applied)

    @contextmanager
    def _unpacking(self, chunks: Iterator[bytes]) -> Iterator[tuple[Applied, Path]]:
        """Apply a tar's *chunks* to a staging directory; what is not published is removed."""
        staged = self.staging / f"layer-{os.urandom(8).hex()}"
        staged.mkdir(mode=0o755)
        try:
            with ExitStack() as stack:
                root = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, root)
                os.fchmod(root, 0o755)
                # Unpacking, hashing and packing in a thread, making files in this one.
                ready = stack.enter_context(read_ahead(chunks))
                applied = apply_layer(TarStream(ready), root, self.ownership, self.limits)
            yield applied, staged
        finally:
            remove_tree(staged)

    def _unpacked(self, chunks: Iterator[bytes], kind: compression.Compression) -> Iterator[bytes]:
        counted = Counted(chunks)
        unpacked = compression.decompress(counted, kind)
        return bounded(unpacked, self.limits, lambda: counted.size)

    def _publish(self, staged: Path, diff_id: str, applied: Applied) -> None:
        """Rename the whole layer to its place; another process may have been quicker."""
        final = self.path(diff_id)
        aside = self.staging / f"size-{os.urandom(8).hex()}"
        aside.write_text(json.dumps({"size": applied.size, "entries": applied.entries}))
        os.rename(aside, self._sidecar(final))
        try:
            os.rename(staged, final)
        except OSError as err:
            if err.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def remove(self, name: str) -> None:
        """Remove an unpacked layer by its directory's name (the content lock is held)."""
        doomed = self.staging / f"removed-{os.urandom(8).hex()}"
        self._sidecar(self.directory / name).unlink(missing_ok=True)
        try:
            os.rename(self.directory / name, doomed)
        except FileNotFoundError:
            return
        remove_tree(doomed)

    def names(self) -> list[str]:
        """Return the names of all layer directories, in either form of ownership."""
        return [name for name in os.listdir(self.directory) if not name.endswith(".json")]

    def _sidecar(self, path: Path) -> Path:
        return path.with_name(path.name + ".json")


class _Packer:
    """Packs what is written into a blob."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._compressor = compression.GzipCompressor()

    def write(self, data: bytes) -> None:
        if packed := self._compressor.compress(data):
            self._writer.write(packed)

    def finish(self) -> None:
        self._writer.write(self._compressor.flush())


def tree_size(path: Path) -> int:
    """Return the bytes of all regular files below *path*, hard links counted once."""
    total, seen = 0, set()
    for directory, _, files in os.walk(path):
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                if status.st_nlink > 1:
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total

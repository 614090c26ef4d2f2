"""The image store: what the rest of sbx asks for.

Everything here runs in the storage user namespace. What refers to what is read from the OCI layout
each time and never stored, so nothing can disagree with it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from msgspec import Struct, structs

from sandbox.errors import Conflict, InvalidSpec, NotFound, SbxError
from sandbox.image import garbage, locks, step_records
from sandbox.image.apply_layer import Applied
from sandbox.image.builtin import BUILTIN, builtin_image
from sandbox.image.changes import apply_changes
from sandbox.image.config import ConfigDocument, ImageConfig, format_time, to_json
from sandbox.image.content import file_chunks
from sandbox.image.descriptor import Descriptor, Platform
from sandbox.image.garbage import InUse, Usage, nothing_in_use
from sandbox.image.image import Image
from sandbox.image.layers import Layers
from sandbox.image.layout import Layout
from sandbox.image.manifest import Manifest, read_config, read_manifest, write_image
from sandbox.image.names import (
    full_name,
    matching,
    name_for,
    named,
    without_name,
)
from sandbox.image.platform import own_platform
from sandbox.image.reference import Reference, is_digest, parse_reference
from sandbox.paths import Paths

__all__ = ["BUILTIN", "Image", "InUse", "Removed", "Store", "Usage"]

# Where an archive comes from: a path, a descriptor, or its chunks.
Source: TypeAlias = str | os.PathLike[str] | int | Iterator[bytes]
_SHORT_ID = re.compile(r"[0-9a-f]{1,64}")


class Removed(Struct, frozen=True):
    """What a removal did: docker's two kinds of lines."""

    untagged: tuple[str, ...] = ()  # names
    deleted: tuple[str, ...] = ()  # image ids
    freed: int = 0  # bytes


class _Stored(Struct, frozen=True):
    """An image with all index entries that lead to it."""

    manifest: Manifest
    document: ConfigDocument
    entries: tuple[Descriptor, ...]


class Store:
    """The images of one user."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.layout = Layout(paths.storage)
        self.blobs = self.layout.blobs
        self.layers = Layers(paths.storage, self.blobs)

    # ── reading ──

    def resolve(self, reference: str) -> Image:
        """Return the image called *reference*, unpacked and ready as lower layers.

        *reference* is a name, an id or the beginning of one, or `host`. Raises NotFound, or
        Conflict when several ids begin so.
        """
        if reference == BUILTIN:
            return self.builtin()
        stored = self._find(reference)
        missing = [d for d in stored.document.diff_ids if not self.layers.has(d)]
        if missing:
            with self.adding():
                self.unpack(stored.manifest, stored.document)
        return self._image(stored)

    def find(self, reference: str) -> Image:
        """Return the image as it is, unpacked or not. Raises as `resolve`."""
        if reference == BUILTIN:
            return self.builtin()
        return self._image(self._find(reference))

    def manifest(self, reference: str) -> Manifest:
        """Return the stored manifest of *reference*. Raises as `resolve`."""
        return self._find(reference).manifest

    def document(self, reference: str) -> ConfigDocument:
        """Return the configuration document of *reference*. Raises as `resolve`."""
        return self._find(reference).document

    def diff_ids(self, reference: str) -> tuple[str, ...]:
        """Return the layers of *reference*, the lowest first. Raises as `resolve`."""
        return self._find(reference).document.diff_ids

    def builtin(self) -> Image:
        """Return the image `host`: this machine's root without what is somebody's."""
        return builtin_image(self.paths)

    def list(self) -> Sequence[Image]:
        """Return all images, the newest first; damaged ones are left out."""
        images = [self._image(stored) for stored in self._all()]
        return sorted(images, key=lambda image: image.created or 0.0, reverse=True)

    def _all(self) -> Iterator[_Stored]:
        by_digest: dict[str, list[Descriptor]] = {}
        for entry in self.layout.entries():
            by_digest.setdefault(entry.digest, []).append(entry)
        by_id: dict[str, _Stored] = {}
        for entries in by_digest.values():
            try:
                stored = self._stored(entries)
            except SbxError:
                continue
            known = by_id.get(stored.manifest.config.digest)
            if known:
                stored = structs.replace(known, entries=known.entries + stored.entries)
            by_id[stored.manifest.config.digest] = stored
        yield from by_id.values()

    def _stored(self, entries: Sequence[Descriptor]) -> _Stored:
        platform = entries[0].platform or own_platform()
        manifest = read_manifest(self.blobs, entries[0], platform)
        return _Stored(manifest, read_config(self.blobs, manifest), tuple(entries))

    def _find(self, reference: str) -> _Stored:
        named = self._entries_named(reference)
        if named:
            return self._stored(named)
        entries = self.layout.entries()
        wanted = matching(entries, reference)
        if wanted is not None:
            return self._stored([e for e in entries if e.digest == wanted.digest])
        digits = reference.removeprefix("sha256:")
        if _SHORT_ID.fullmatch(digits):
            found = [
                s
                for s in self._all()
                if s.manifest.config.digest.startswith(f"sha256:{digits}")
                or s.manifest.descriptor.digest == f"sha256:{digits}"
            ]
            if len(found) > 1:
                raise Conflict(f"several image ids begin with {digits}", hint="give more digits")
            if found:
                return found[0]
        raise _not_found(reference)

    def _entries_named(self, reference: str) -> Sequence[Descriptor]:
        try:
            name = parse_reference(reference)
        except InvalidSpec:
            return ()
        return () if name.digest else self.layout.entries_beside(str(name))

    def _image(self, stored: _Stored) -> Image:
        document = stored.document
        return Image(
            id=stored.manifest.config.digest,
            names=tuple(sorted({full_name(e) for e in stored.entries if e.ref_name})),
            config=document.config,
            lower=tuple(str(self.layers.path(d)) for d in reversed(document.diff_ids)),
            created=document.created,
            size=sum(map(self.layers.size, document.diff_ids)),
            digest=stored.manifest.descriptor.digest,
            platform=document.platform,
            history=document.history,
        )

    # ── adding ──

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Hold off the removal of what nothing refers to yet.

        Also for those who resolve an image and are about to write down that they use it.
        """
        self.layout.create()
        with locks.exclusive_if_free(self.layout.content_lock) as alone:
            if alone:
                garbage.clear_staging(self.layout.staging)
        with locks.shared(self.layout.content_lock):
            yield

    def hold(self) -> AbstractContextManager[None]:
        """Keep all layers in place, for who resolves an image and then records its use."""
        self.layout.create()
        return locks.shared(self.layout.content_lock)

    def unpack(self, manifest: Manifest, document: ConfigDocument) -> Sequence[Applied]:
        """Apply all layers of an image that are not there yet (called while `adding`)."""
        pairs = zip(document.diff_ids, manifest.layers, strict=True)
        return [self.layers.apply(diff_id, layer) for diff_id, layer in pairs]

    def import_rootfs(
        self,
        source: Source,
        reference: str,
        *,
        changes: Iterable[str] = (),
        message: str = "",
        platform: Platform | None = None,
        refused: Callable[[Applied], None] | None = None,
    ) -> Image:
        """Make an image of one layer from a root file system's tar archive, packed or not.

        *source* is a path, a descriptor to read from, or the archive in chunks. *refused* is told
        what was left out.
        Raises InvalidSpec, StoreError.
        """
        name = name_for(reference) if reference else None
        config = apply_changes(ImageConfig(), changes)
        platform = platform or own_platform()
        with self.adding(), _opened(source) as chunks:
            layer = self.layers.add(chunks)
            now = time.time()
            comment = message or f"Imported from {_source_name(source)}"
            document = ConfigDocument(
                platform,
                config,
                (layer.diff_id,),
                now,
                history=({"created": format_time(now), "comment": comment},),
            )
            manifest = self.add_image(document, (layer.descriptor,), name)
        if refused and layer.applied.left_out:
            refused(layer.applied)
        return self.find(manifest.config.digest)

    def add_image(
        self, document: ConfigDocument, layers: Sequence[Descriptor], name: Reference | None
    ) -> Manifest:
        """Store an image whose layers are there (called while `adding`); name it."""
        manifest = write_image(self.blobs, to_json(document), tuple(layers), document.platform)
        self.name(manifest.descriptor, name)
        return manifest

    def name(self, descriptor: Descriptor, name: Reference | None) -> None:
        """Make *name* lead to a stored manifest; who had the name before is left without it."""
        bare = structs.replace(descriptor, annotations={})

        def change(entries: Sequence[Descriptor]) -> Sequence[Descriptor]:
            if name is None:
                return (
                    entries if any(e.digest == bare.digest for e in entries) else [*entries, bare]
                )
            return named(without_name(entries, str(name)), bare, str(name))

        self.layout.change(change)

    def tag(self, source: str, target: str) -> None:
        """Give the image *source* a further name. Raises as `resolve`, and InvalidSpec."""
        name = name_for(target)
        with self.hold():
            self.name(self._find(source).entries[0], name)

    # ── removing ──

    def remove(
        self, reference: str, *, force: bool = False, in_use: Callable[[], InUse] = nothing_in_use
    ) -> Removed:
        """Remove a name and, with its last name, the image.

        Layers that containers stand on stay until these are gone. Raises NotFound, Conflict.
        """
        if reference == BUILTIN:
            raise Conflict(f"image {BUILTIN} is built in and can't be removed")
        self.layout.create()
        # Who is about to record a container of it holds the content meanwhile.
        with locks.exclusive(self.layout.content_lock):
            removed = self._remove_names(reference, in_use, force=force)
        return structs.replace(removed, freed=self.collect(in_use)) if removed.deleted else removed

    def _remove_names(self, reference: str, in_use: Callable[[], InUse], *, force: bool) -> Removed:
        stored = self._find(reference)
        image_id = stored.manifest.config.digest
        names = {full_name(e) for e in stored.entries if e.ref_name}
        by_name = matching(stored.entries, reference)
        doomed = {full_name(by_name)} if by_name and by_name.ref_name else names
        if doomed != names:
            self._drop_names(doomed)
            return Removed(untagged=tuple(sorted(doomed)))
        if not by_name and len(names) > 1 and not force:
            raise Conflict(
                f"image {image_id[7:19]} has several names",
                detail=", ".join(sorted(names)),
                hint=f"sbx rmi --force {reference}",
            )
        if not force and image_id in in_use().images:
            raise Conflict(
                f"image {reference} is in use by a container", hint="sbx ps --all, then sbx rm"
            )
        digests = {e.digest for e in stored.entries}
        self.layout.change(lambda entries: [e for e in entries if e.digest not in digests])
        return Removed(tuple(sorted(names)), (image_id,))

    def _drop_names(self, names: Collection[str]) -> None:
        self.layout.change(
            lambda entries: [e for e in entries if not e.ref_name or full_name(e) not in names]
        )

    def prune(
        self,
        *,
        everything: bool = False,
        in_use: Callable[[], InUse] = nothing_in_use,
        keep: Callable[[Image], bool] = lambda image: False,
    ) -> Removed:
        """Remove images without a name (with *everything*, all) that no container uses."""
        self.layout.create()
        with locks.exclusive(self.layout.content_lock):
            used = in_use().images
            doomed = [
                image
                for image in self.list()
                if image.id not in used and (everything or not image.names) and not keep(image)
            ]
            ids = {image.id for image in doomed}
            gone = {
                e.digest for s in self._all() if s.manifest.config.digest in ids for e in s.entries
            }
            self.layout.change(lambda entries: [e for e in entries if e.digest not in gone])
        names = tuple(sorted(name for image in doomed for name in image.names))
        return Removed(names, tuple(sorted(ids)), self.collect(in_use))

    def collect(self, in_use: Callable[[], InUse] = nothing_in_use) -> int:
        """Remove all content that no image leads to; return the bytes freed."""
        return garbage.collect(self.layout, self.layers, in_use)

    def prune_steps(self, in_use: Callable[[], InUse] = nothing_in_use) -> int:
        """Forget what builds came to; return the bytes freed."""
        for key, _ in list(step_records.records(self.layout.root)):
            step_records.remove(self.layout.root, key)
        return self.collect(in_use)

    def disk_usage(self, in_use: Callable[[], InUse] = nothing_in_use) -> Usage:
        """Return how much the images take: packed blobs and unpacked layers."""
        return garbage.usage(self.layout, self.list(), in_use())

    def reset(self) -> None:
        """Remove the whole store."""
        garbage.remove_store(self.layout)


def _not_found(reference: str) -> NotFound:
    if is_digest(reference) or _SHORT_ID.fullmatch(reference):
        return NotFound(f"no such image: {reference}", hint="sbx images")
    name = parse_reference(reference)
    return NotFound(
        f"no such image: {name.familiar}", hint=f"sbx images, or sbx pull {name.familiar}"
    )


@contextmanager
def _opened(source: Source) -> Iterator[Iterator[bytes]]:
    if isinstance(source, int):
        yield file_chunks(source)
        return
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidSpec(f"can't read {os.fspath(source)}", detail=err.strerror) from err
    try:
        yield file_chunks(descriptor)
    finally:
        os.close(descriptor)


def _source_name(source: Source) -> str:
    return os.path.basename(source) if isinstance(source, str | os.PathLike) else "-"

"""A layer's changeset (OCI image specification, layer.md) of an overlay's upper directory.

The reverse of `apply_layer`. The archive depends on nothing but the tree: names are sorted, times
are whole seconds. What docs/overlay.md says of the format on disk is undone: whiteouts become
`.wh.` files, a renamed directory is written out in full, and the names of a hard-linked file that
lead to its copy in the index become links.

Reads uppers of this overlay and of the kernel's. They must not change meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from fuse_overlay import whiteout
from fuse_overlay.layers import Layer, LayerDir
from sandbox.image.apply_layer import Applied
from sandbox.image.members import Members
from sandbox.image.merged import Dirs, Found, Merged
from sandbox.image.tar_writer import END

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GATHERED = 1 << 18  # bytes of small members that go on as one chunk

# Names below a directory at which the index has a copy; a directory's own are below it.
_Linked = dict[bytes, "_Linked | bytes"]


@dataclass(frozen=True, slots=True)
class Upper:
    """A container's changes, and what they were made to."""

    upper: str
    work: str
    lower: tuple[str, ...]  # topmost first


@dataclass(slots=True)
class LayerDiff:
    """The layer of an upper: iterate over it once, then ask what was left out."""

    upper: Upper
    epoch: int | None = None  # SOURCE_DATE_EPOCH: no time is later
    left_out: Applied = field(default_factory=Applied)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the archive in chunks. The working directory changes until its end."""
        before = os.open(".", os.O_PATH | os.O_CLOEXEC)
        merged = Merged(self.upper.upper, self.upper.lower)
        try:
            yield from _gathered(_Walk(self, merged).members())
        finally:
            merged.close()
            with suppress(OSError):
                os.fchdir(before)
            os.close(before)


@dataclass(slots=True)
class _Place:
    """One directory on the way: the names in it that are left, and what lies there."""

    path: bytes
    dirs: Dirs  # the merged directory
    base: Dirs  # what the image had at this path
    names: list[bytes]  # still to come, the first at the end
    full: bool  # everything is written, not just what the upper has
    linked: _Linked


class _Walk:
    def __init__(self, diff: LayerDiff, merged: Merged) -> None:
        self.diff = diff
        self.merged = merged
        self.top = merged.root_of(0)
        self.members_of = Members(diff.epoch, left_out=diff.left_out)
        self.index: LayerDir | None = None
        self.places: list[_Place] = []

    def members(self) -> Iterator[bytes]:
        linked = self._find_linked()
        base = self.merged.below(1)
        self._enter(b"", self.merged.root, base, full=False, linked=linked)
        if len(self.merged.root) == 1 and base:
            yield self.members_of.mark(whiteout.DOT_OPAQUE)
        while self.places:
            place = self.places[-1]
            if place.names:
                yield from self._name(place, place.names.pop())
            else:
                self.places.pop()
        yield END

    def _enter(self, path: bytes, dirs: Dirs, base: Dirs, *, full: bool, linked: _Linked) -> None:
        if full:
            names = set(self.merged.names(dirs))
        else:
            names = {*_marked(dirs[0]), *linked} if self._is_ours(dirs[0]) else set(linked)
        self.places.append(_Place(path, dirs, base, sorted(names, reverse=True), full, linked))

    def _is_ours(self, directory: LayerDir) -> bool:
        return directory.layer is self.top.layer

    def _name(self, place: _Place, name: bytes) -> Iterator[bytes]:
        path = place.path + name
        found = self.merged.find(place.dirs, name)
        before = self.merged.find(place.base, name)
        if found is None:
            if before is not None and not whiteout.is_dot_name(name):
                yield self.members_of.mark(place.path + whiteout.dot_mark(name))
            return
        if whiteout.is_dot_name(name):
            # In a layer such a name is a mark, whatever lies there.
            self.diff.left_out.leave_out("name that begins with .wh.", path)
            return
        if found.dirs:
            yield from self._directory(place, path, name, found, before)
            return
        copy = place.linked.get(name)
        if isinstance(copy, bytes) and not self._is_ours(found.where):
            assert self.index is not None
            yield from self.members_of.member(path, self.index, copy, shared=True)
        else:
            yield from self.members_of.member(path, found.where, found.name)

    def _directory(
        self, place: _Place, path: bytes, name: bytes, found: Found, before: Found | None
    ) -> Iterator[bytes]:
        yield from self.members_of.member(path, found.where, found.name)
        dirs = tuple(found.dirs)
        base = tuple(before.dirs) if before else ()
        lower = dirs[1:] if self._is_ours(dirs[0]) else dirs
        # Other directories lie below than at this path: it was renamed to here.
        full = place.full or bool(lower and not _same(lower, base))
        opaque = base and (full or not lower)
        if opaque:
            yield self.members_of.mark(path + b"/" + whiteout.DOT_OPAQUE)
        linked = place.linked.get(name)
        self._enter(
            path + b"/",
            dirs,
            () if opaque else base,
            full=full,
            linked=linked if isinstance(linked, dict) else {},
        )

    # ── hard links of lower files whose copy is in the index (fuse_overlay.hardlinks) ──

    def _find_linked(self) -> _Linked:
        """Return the names that only a lower has, of files that were copied up under another."""
        copies = self._copies()
        linked: _Linked = {}
        if not copies:
            return linked
        pending: list[tuple[tuple[bytes, ...], Dirs]] = [((), self.merged.root)]
        while pending:
            path, dirs = pending.pop()
            for name in self.merged.names(dirs):
                found = self.merged.find(dirs, name)
                if found is None:
                    continue
                if found.dirs:
                    if not self._is_ours(found.dirs[-1]):
                        pending.append(((*path, name), tuple(found.dirs)))
                elif found.st.st_nlink > 1 and not self._is_ours(found.where):
                    node_id = self.merged.node_id(found.st)
                    if node_id in copies:
                        _insert(linked, (*path, name), b"%x" % node_id)
        return linked

    def _copies(self) -> set[int]:
        """Return the node ids of copies that names of a lower lead to."""
        try:
            descriptor = os.open(os.path.join(self.diff.upper.work, "index"), _DIRECTORY)
        except FileNotFoundError:
            return set()
        self.index = LayerDir(Layer(0, descriptor), None, b"index", descriptor)
        self.index.enter()
        found = set()
        for name in os.listdir(b"."):
            extra = whiteout.read_xattr(name, whiteout.NLINK)
            # One link is the index's own: so many names more than links, so many are the lower's.
            with suppress(ValueError):
                if extra is not None and int(extra[1:]) + 1 > 0:
                    found.add(int(name, 16))
        return found


def _insert(linked: _Linked, path: tuple[bytes, ...], copy: bytes) -> None:
    for name in path[:-1]:
        below = linked.setdefault(name, {})
        assert isinstance(below, dict)
        linked = below
    linked[path[-1]] = copy


def _marked(directory: LayerDir) -> set[bytes]:
    """Return the names in a real directory, and those that marks in it hide."""
    marks = directory.marks()
    return {*directory.names()} - marks.names | marks.hidden


def _same(one: Dirs, other: Dirs) -> bool:
    """Tell whether two merged directories are made of the same real ones."""
    return len(one) == len(other) and all(
        a.layer is b.layer and _identity(a) == _identity(b) for a, b in zip(one, other, strict=True)
    )


def _identity(directory: LayerDir) -> tuple[int, int]:
    status = os.fstat(directory.open())
    return status.st_dev, status.st_ino


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small chunks: each costs its way through hashing and packing."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _GATHERED:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)

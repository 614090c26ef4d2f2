"""What an overlay's upper directory changed: one walk for layers and for `sbx diff`.

Reads uppers of this overlay and of the kernel's (docs/overlay.md, "On disk"). A renamed directory
of a lower is walked in full; names of a hard-linked file that only a lower has, and that lead to
the file's copy in the index, count as changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct

from fuse_overlay import whiteout
from fuse_overlay.layers import Layer, LayerDir
from sandbox.errors import StoreError
from sandbox.image.merged import Dirs, Found, Merged

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# Names below a directory at which the index has a copy; a directory's own are below it.
_Linked = dict[bytes, "_Linked | bytes"]


class Upper(Struct, frozen=True):
    """A container's changes, and what they were made to."""

    upper: str
    work: str
    lower: tuple[str, ...]  # topmost first
    # Where sbx mounts something: a file or directory that was made for that, and is empty, is no
    # change of the container's.
    mountpoints: frozenset[bytes] = frozenset()
    hidden: tuple[str, ...] = ()

    @property
    def host(self) -> bool:
        return self.lower == ("/",)


class Changed(Struct, frozen=True):
    """A name that is new or changed, and the real file that lies there now."""

    path: bytes
    added: bool
    where: LayerDir
    name: bytes
    directory: bool
    shared: bool = False  # has further names, whatever the link count says
    touched: bool = True  # False: a directory that is as it was, but perhaps for its time


class Removed(Struct, frozen=True):
    """A name that lowers have and the merged view has not.

    *opaque*: the directory is another one than the lowers', and hides what these have in it;
    *inside* are those names of theirs that it does not have itself.
    """

    path: bytes
    opaque: bool = False
    inside: tuple[bytes, ...] = ()


Difference = Changed | Removed


class _Place(Struct):
    """One directory on the way: the names in it that are left, and what lies there."""

    path: bytes
    dirs: Dirs  # the merged directory
    base: Dirs  # what the image had at this path
    names: list[bytes]  # still to come, the first at the end
    full: bool  # everything is written, not just what the upper has
    linked: _Linked


def differences(upper: Upper, *, everything: bool = False) -> Iterator[Difference]:
    """Yield what *upper* changed, directories before what is in them, names in order.

    With *everything* all of the merged tree counts as new. The working directory changes until the
    end. Raises StoreError when the upper is removed meanwhile.
    """
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    merged = Merged(upper.upper, upper.lower, hidden=upper.hidden, host=upper.host)
    try:
        walk = _Walk(upper, merged)
        if everything:
            yield from walk.walk(everything=True)
        else:
            yield from _without_mountpoints(walk.walk(), upper.mountpoints)
        if not os.path.exists(upper.upper):
            raise StoreError("the container was removed meanwhile")
    finally:
        merged.close()
        with suppress(OSError):
            os.fchdir(before)
        os.close(before)


class _Walk:
    def __init__(self, upper: Upper, merged: Merged) -> None:
        self.upper = upper
        self.merged = merged
        self.top = merged.root_of(0)
        self.index: LayerDir | None = None
        self.places: list[_Place] = []

    def walk(self, *, everything: bool = False) -> Iterator[Difference]:
        linked = self._find_linked()
        base = () if everything else self.merged.below(1)
        opaque = len(self.merged.root) == 1 and bool(base)
        if opaque:
            yield self._opaque(b"", self.merged.root, base)
            base = ()
        self._enter(b"", self.merged.root, base, full=everything, linked=linked)
        while self.places:
            place = self.places[-1]
            if place.names:
                # A running container's names may go while they are looked at.
                with suppress(FileNotFoundError, NotADirectoryError):
                    yield from self._name(place, place.names.pop())
            else:
                self.places.pop()

    def _enter(self, path: bytes, dirs: Dirs, base: Dirs, *, full: bool, linked: _Linked) -> None:
        if full:
            names = self._readable_names(dirs)
        else:
            names = {*_marked(dirs[0]), *linked} if self._is_ours(dirs[0]) else set(linked)
        self.places.append(_Place(path, dirs, base, sorted(names, reverse=True), full, linked))

    def _readable_names(self, dirs: Dirs) -> set[bytes]:
        try:
            return set(self.merged.names(dirs))
        except PermissionError:
            return set()  # of the host's root, what not everybody may list is not shown

    def _is_ours(self, directory: LayerDir) -> bool:
        return directory.layer is self.top.layer

    def _name(self, place: _Place, name: bytes) -> Iterator[Difference]:
        path = place.path + name
        found = self.merged.find(place.dirs, name)
        before = self.merged.find(place.base, name)
        if found is None:
            if before is not None:
                yield Removed(path)
        elif found.dirs:
            same = before is not None and _same_attributes(before, found)
            yield Changed(
                path, before is None, found.where, found.name, directory=True, touched=not same
            )
            yield from self._directory(place, path, name, found, before)
        else:
            where, real, shared = found.where, found.name, False
            copy = place.linked.get(name)
            if isinstance(copy, bytes) and not self._is_ours(where):
                assert self.index is not None
                where, real, shared = self.index, copy, True
            yield Changed(path, before is None, where, real, directory=False, shared=shared)

    def _directory(
        self, place: _Place, path: bytes, name: bytes, found: Found, before: Found | None
    ) -> Iterator[Difference]:
        dirs = tuple(found.dirs)
        base = tuple(before.dirs) if before else ()
        lower = dirs[1:] if self._is_ours(dirs[0]) else dirs
        # Other directories lie below than at this path: it was renamed to here.
        full = place.full or bool(lower and not _same(lower, base))
        opaque = bool(base) and (full or not lower)
        if opaque:
            yield self._opaque(path, dirs, base)
        linked = place.linked.get(name)
        self._enter(
            path + b"/",
            dirs,
            () if opaque else base,
            full=full,
            linked=linked if isinstance(linked, dict) else {},
        )

    def _opaque(self, path: bytes, dirs: Dirs, base: Dirs) -> Removed:
        gone = {*self.merged.names(base)} - {*self.merged.names(dirs)}
        return Removed(path, opaque=True, inside=tuple(sorted(gone)))

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
            for name in self._readable_names(dirs):
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
            descriptor = os.open(os.path.join(self.upper.work, "index"), _DIRECTORY)
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


def _without_mountpoints(
    found: Iterator[Difference], mountpoints: frozenset[bytes]
) -> Iterator[Difference]:
    """Leave out what was made only to be mounted on, and directories that changed only by that."""
    above = {
        path.rsplit(b"/", depth)[0]
        for path in mountpoints
        for depth in range(1, path.count(b"/") + 1)
    }
    waiting: list[Changed] = []
    for difference in found:
        path = difference.path
        while waiting and not path.startswith(waiting[-1].path + b"/"):
            waiting.pop()
        if isinstance(difference, Changed):
            if path in mountpoints and difference.added and _is_empty(difference):
                continue
            if (
                path in above
                and difference.directory
                and (difference.added or not difference.touched)
            ):
                waiting.append(difference)
                continue
        yield from waiting
        waiting.clear()
        yield difference


def _is_empty(found: Changed) -> bool:
    if found.directory:
        try:
            descriptor = os.open(found.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=found.where.open())
        except OSError:
            return False
        try:
            return not os.listdir(descriptor)
        finally:
            os.close(descriptor)
    status = os.stat(found.name, dir_fd=found.where.open(), follow_symlinks=False)
    return status.st_size == 0


def _same_attributes(before: Found, found: Found) -> bool:
    if before.st.st_mode != found.st.st_mode:
        return False
    # The owners of the host's root have no ids here.
    return before.where.layer.squash or (
        (before.st.st_uid, before.st.st_gid) == (found.st.st_uid, found.st.st_gid)
    )


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

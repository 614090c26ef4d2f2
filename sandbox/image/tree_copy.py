"""Copying files from one tree to another as a tar stream: `sbx cp`.

A tree is a directory's descriptor. In a container's, every path is resolved by openat2(2) as in a
chroot, so what its programs swap meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack

from msgspec import Struct

from fuse_overlay.layers import Layer, LayerDir
from sandbox.errors import InvalidSpec, NotFound, StoreError
from sandbox.image.apply_layer import Applied, Entries, apply_layer, printable
from sandbox.image.layer_diff import gathered
from sandbox.image.limits import LayerLimits
from sandbox.image.members import Members
from sandbox.image.tar_stream import Entry, TarStream
from sandbox.image.tar_writer import END
from sandbox.linux.syscalls import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    openat2,
)

CONTAINED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_MOST_LINKS = 40  # as the kernel follows (path_resolution(7))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree(Struct, frozen=True):
    """Where paths are looked up, and how links on the way are followed."""

    root: int  # a descriptor
    resolve: int  # flags of openat2(2)
    ids: int  # how many user and group ids there are, from 0 on
    closed: frozenset[tuple[int, int]] = frozenset()  # directories that are copied empty

    def open(self, path: str, flags: int) -> int:
        return openat2(self.root, path.lstrip("/") or ".", flags, resolve=self.resolve)

    def parent(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory that *path* is in, and its last component.

        The root, and what ends in "." or "..", is "." in itself. Raises OSError.
        """
        above, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return self.open(path, os.O_PATH | os.O_DIRECTORY), "."
        return self.open(above, os.O_PATH | os.O_DIRECTORY), name

    def followed(self, path: str) -> str:
        """Return *path* with the link that it is itself replaced by where it leads."""
        for _ in range(_MOST_LINKS):
            above, name = self.parent(path)
            try:
                target = os.readlink(name, dir_fd=above)
            except OSError as err:
                if err.errno in (errno.EINVAL, errno.ENOENT):
                    return path
                raise
            finally:
                os.close(above)
            path = target if target.startswith("/") else f"{os.path.dirname(path)}/{target}"
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


class Source(Struct, frozen=True):
    """What is copied."""

    path: str  # ends with "/." for what is in a directory, without the directory itself
    follow: bool = False  # a link that is copied stands for what it leads to
    archive: bool = False  # owners are kept


def pack(tree: Tree, source: Source) -> Iterator[bytes]:
    """Yield the archive of *source*. Its first entry has the last component as its name, or ".".

    The working directory changes. Raises NotFound, InvalidSpec.
    """
    return gathered(_pack(tree, source))


def _pack(tree: Tree, source: Source) -> Iterator[bytes]:
    with ExitStack() as stack:
        try:
            path = tree.followed(source.path) if source.follow else source.path
            parent, found = tree.parent(path)
            stack.callback(os.close, parent)
            name = os.fsencode(found)
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if path.endswith("/") and not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as err:
            kind = NotFound if err.errno == errno.ENOENT else InvalidSpec
            raise kind(f"can't copy {source.path}", detail=err.strerror) from err
        members = Members(squash=not source.archive)
        shown = os.fsencode(_last(source.path)) if source.follow else name
        yield from _walk(members, tree, shown, parent, name)
    yield END


def _last(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    return "." if name in ("", ".", "..") else name


def _walk(members: Members, tree: Tree, path: bytes, parent: int, name: bytes) -> Iterator[bytes]:
    """Yield the members of *name* in the directory *parent*, and of all below it."""
    # Directories on the way: a descriptor, the path in the archive, the names that are left.
    places = [(os.dup(parent), b"", [name])]
    try:
        while places:
            directory, above, names = places[-1]
            if not names:
                os.close(places.pop()[0])
                continue
            name = names.pop()
            inside = path if len(places) == 1 else above + name
            try:
                # What goes while it is looked at is not copied.
                yield from members.member(inside, _as_layer(directory), name)
                below = os.open(name, _DIRECTORY, dir_fd=directory)
            except OSError as err:
                if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                    continue
                raise InvalidSpec(f"can't copy {printable(inside)}", detail=err.strerror) from err
            found = [] if _identity(below) in tree.closed else os.listdir(below)
            places.append((below, inside + b"/", sorted(map(os.fsencode, found), reverse=True)))
    finally:
        for directory, _, _ in places:
            os.close(directory)


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _as_layer(directory: int) -> LayerDir:
    return LayerDir(Layer(0, directory), None, b"", directory)


def unpack(tree: Tree, path: str, chunks: Iterator[bytes]) -> Applied:
    """Write what `pack` gave to *path*: into a directory, or under the name that it gives.

    The rules are docker's: what does not exist is made, but not the directories above it.
    Raises InvalidSpec, NotFound, StoreError.
    """
    stream = TarStream(chunks)
    entries = iter(stream)
    first = next(entries, None)
    if first is None:
        raise StoreError("damaged tar archive", detail="it is empty")
    renamed = _Renamed(stream, first, entries)
    root = _destination(tree, path, renamed)
    return _apply(renamed, root, tree.ids)


def unpack_archive(tree: Tree, path: str, chunks: Iterator[bytes]) -> Applied:
    """Write any tar archive into the directory *path*. Raises NotFound, InvalidSpec, StoreError."""
    try:
        root = tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        kind = NotFound if err.errno == errno.ENOENT else InvalidSpec
        raise kind(f"can't copy to {path}", detail=err.strerror) from err
    return _apply(TarStream(chunks), root, tree.ids)


def _apply(entries: Entries, root: int, ids: int) -> Applied:
    try:
        # Where there is one id, there is no other owner.
        written = _OfRoot(entries) if ids == 1 else entries
        return apply_layer(written, root, "real", LayerLimits(), marks=False, ids=ids)
    except StoreError as err:
        raise StoreError("can't copy", detail=err.detail or err.message, hint=err.hint) from err
    finally:
        os.close(root)


class _OfRoot:
    """Entries that belong to 0."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            entry.uid = entry.gid = 0
            yield entry

    def data(self) -> Iterator[memoryview]:
        return self._entries.data()


class _Renamed:
    """Entries whose first component is another than in the archive."""

    def __init__(self, stream: TarStream, first: Entry, entries: Iterator[Entry]) -> None:
        self._stream = stream
        self._entries = entries
        self.first = first
        self._old = first.name.rstrip(b"/").partition(b"/")[0]
        self.new = self._old
        self.without_first = False  # a directory that exists keeps its attributes

    @property
    def is_directory(self) -> bool:
        return self.first.kind == "dir"

    @property
    def is_content(self) -> bool:
        """True for what is in a directory, without the directory itself."""
        return self._old == b"."

    @property
    def name(self) -> str:
        return os.fsdecode(self._old)

    def __iter__(self) -> Iterator[Entry]:
        if not self.without_first:
            yield self._rename(self.first)
        for entry in self._entries:
            yield self._rename(entry)

    def _rename(self, entry: Entry) -> Entry:
        entry.name = self._moved(entry.name)
        if entry.kind == "link":
            entry.link = self._moved(entry.link)
        return entry

    def _moved(self, name: bytes) -> bytes:
        return self.new + name[len(self._old) :] if self.new != self._old else name

    def data(self) -> Iterator[memoryview]:
        return self._stream.data()


def _destination(tree: Tree, path: str, entries: _Renamed) -> int:
    """Return the directory to write to, and let *entries* have the right name in it."""
    try:
        return _open_destination(tree, path, entries)
    except OSError as err:
        kind = NotFound if err.errno == errno.ENOENT else InvalidSpec
        raise kind(f"can't copy to {path}", detail=err.strerror) from err


def _open_destination(tree: Tree, path: str, entries: _Renamed) -> int:
    try:
        status = _stat(tree, path)
    except FileNotFoundError:
        status = None
    if status is not None and stat.S_ISDIR(status.st_mode):
        entries.without_first = entries.is_content
        return tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if status is not None and entries.is_directory:
        raise InvalidSpec(f"can't copy a directory to the file {path}")
    if path.endswith(("/", "/.")) and not (status is None and entries.is_directory):
        what = "is not a directory" if status else "does not exist"
        raise NotFound(f"the destination directory {path} {what}")
    final = tree.followed(path.removesuffix("/.").rstrip("/"))
    above, _, name = final.rpartition("/")
    entries.new = os.fsencode(name)
    return tree.open(above, os.O_RDONLY | os.O_DIRECTORY)


def _stat(tree: Tree, path: str) -> os.stat_result:
    descriptor = tree.open(path, os.O_PATH)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)

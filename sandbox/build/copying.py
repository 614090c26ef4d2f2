"""COPY and ADD: from what was selected to a layer, and the digest of what was selected."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sandbox.build.accounts import find_owner
from sandbox.build.archives import Archive, open_archive
from sandbox.build.errors import BuildError
from sandbox.build.layer_writer import Attributes, LayerWriter, file_content
from sandbox.build.modes import new_mode
from sandbox.build.patterns import IgnoreRules
from sandbox.build.select import Selected, Source, files_of, find_sources
from sandbox.build.tree import Node, Tree
from sandbox.image.content import CHUNK


class Text(Struct, frozen=True):
    """A here-document as a source."""

    name: str
    content: str


class Copy(Struct, frozen=True):
    """A COPY or ADD with all its words expanded."""

    sources: tuple[str, ...]  # paths and patterns in the tree
    target: str  # absolute; a slash at the end says that it is a directory
    texts: tuple[Text, ...] = ()
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    unpack: bool = False  # ADD: archives are unpacked
    directory_only: bool = False  # several sources: the target is a directory
    names: tuple[str, ...] = field(default=())  # what the sources are called, where not as in them

    @property
    def into_directory(self) -> bool:
        return self.target.endswith("/") or self.directory_only


def digest_of(copy: Copy, tree: Tree) -> str:
    """Return a digest of all that *copy* takes of *tree*: names, kinds, modes, owners, content.

    No times: a file that was only touched is the same.
    """
    total = hashlib.sha256()
    excludes = IgnoreRules(copy.excludes)
    for given in copy.sources:
        total.update(b"source\0")
        for source in find_sources(tree, given, parents=copy.parents):
            total.update(f"{source.name}\0".encode(errors="surrogateescape"))
            for parent in source.parents:
                total.update(f"{parent.path}\0{parent.mode}\0".encode(errors="surrogateescape"))
            for selected in files_of(tree, source, excludes):
                total.update(_line(tree, selected))
    for text in copy.texts:
        total.update(f"text\0{text.name}\0{text.content}".encode(errors="surrogateescape"))
    return total.hexdigest()


def _line(tree: Tree, selected: Selected) -> bytes:
    node = selected.node
    parts = [selected.name, oct(node.mode), str(node.uid), str(node.gid)]
    if node.is_file:
        parts += [str(node.size), _file_digest(tree, node)]
    elif node.is_link:
        parts.append(tree.target(node))
    if not node.is_link:
        parts += [f"{name}={value.hex()}" for name, value in sorted(tree.xattrs(node).items())]
    return ("\0".join(parts) + "\n").encode(errors="surrogateescape")


def _file_digest(tree: Tree, node: Node) -> str:
    found = hashlib.sha256()
    descriptor = tree.open(node)
    try:
        while data := os.read(descriptor, CHUNK):
            found.update(data)
    finally:
        os.close(descriptor)
    return found.hexdigest()


def copy_layer(copy: Copy, tree: Tree, writer: LayerWriter) -> Iterator[bytes]:
    """Yield the layer's archive. Raises BuildError."""
    copier = _Copier(copy, tree, writer)
    yield from copier.all()
    yield from writer.end()


class _Copier:
    def __init__(self, copy: Copy, tree: Tree, writer: LayerWriter) -> None:
        self.copy = copy
        self.tree = tree
        self.writer = writer
        self.owner = find_owner(writer.below, copy.chown) if copy.chown else None
        self.excludes = IgnoreRules(copy.excludes)
        self.first_names: dict[tuple[int, int], str] = {}
        # Directories that had to be made belong to whom the files are given.
        self.new_owner = self.owner or (0, 0)

    def all(self) -> Iterator[bytes]:
        target = self.writer.follow(self.copy.target)
        if self.copy.into_directory:
            yield from self.writer.directories(target, *self.new_owner)
        for number, given in enumerate(self.copy.sources):
            sources = find_sources(self.tree, given, parents=self.copy.parents)
            if len(sources) > 1 and not self.copy.into_directory:
                raise BuildError(
                    f"{given} is several files, and the target is not a directory",
                    hint=f"write {self.copy.target}/",
                )
            for source in sources:
                if number < len(self.copy.names):
                    source = replace(source, name=self.copy.names[number])
                yield from self._source(source, target)
        for text in self.copy.texts:
            yield from self._text(text, target)

    def _place(self, target: str, name: str, *, directory: bool) -> str:
        """Return where a source goes: into a directory, or under the target's own name."""
        if directory or (not self.copy.into_directory and self.writer.kind(target) != "dir"):
            return target
        return _joined(target, name)

    def _source(self, source: Source, target: str) -> Iterator[bytes]:
        node = source.node
        if self.copy.parents:
            for parent in source.parents:
                place = _joined(target, parent.path)
                yield from self.writer.directories(posixpath.dirname(place), *self.new_owner)
                yield from self.writer.directory(place, self._attributes(parent, {}))
            above = source.parents[-1].path if source.parents else ""
            target = _joined(_joined(target, above), source.name)
            place = target
        else:
            place = self._place(target, source.name, directory=node.is_directory)
        if self.copy.unpack and node.is_file:
            archive = open_archive(self.tree, node)
            if archive is not None:
                yield from self._unpack(archive, target)
                return
        above = place if node.is_directory else posixpath.dirname(place)
        yield from self.writer.directories(above, *self.new_owner)
        for selected in files_of(self.tree, source, self.excludes):
            yield from self._selected(selected, place)

    def _selected(self, selected: Selected, place: str) -> Iterator[bytes]:
        node, writer = selected.node, self.writer
        path = _joined(place, selected.name)
        if node.is_directory:
            # What is copied of a directory is what is in it: its own attributes are not.
            if not selected.name:
                return
            yield from writer.directory(path, self._attributes(node))
            return
        if node.links > 1 and node.is_file:
            first = self.first_names.setdefault(node.identity, path)
            if first != path:
                yield from writer.hard_link(path, first)
                return
        if node.is_file:
            descriptor = self.tree.open(node)
            size = os.fstat(descriptor).st_size
            content = file_content(descriptor, size)
            yield from writer.file(path, self._attributes(node), size, content)
        elif node.is_link:
            yield from writer.link(path, self.tree.target(node), self._attributes(node, {}))
        elif stat.S_ISFIFO(node.mode):
            yield from writer.fifo(path, self._attributes(node, {}))
        # Sockets and devices can't be part of an image that an ordinary user makes.

    def _attributes(self, node: Node, xattrs: dict[str, bytes] | None = None) -> Attributes:
        mode = stat.S_IMODE(node.mode)
        if self.copy.chmod and not node.is_link:
            mode = new_mode(self.copy.chmod, node.mode)
        uid, gid = self.owner or (node.uid, node.gid)
        if xattrs is None:
            xattrs = self.tree.xattrs(node)
        return Attributes(mode, uid, gid, node.mtime_ns, xattrs)

    def _text(self, text: Text, target: str) -> Iterator[bytes]:
        place = self._place(target, text.name, directory=False)
        yield from self.writer.directories(posixpath.dirname(place), *self.new_owner)
        data = text.content.encode(errors="surrogateescape")
        mode = new_mode(self.copy.chmod, stat.S_IFREG | 0o644) if self.copy.chmod else 0o644
        attributes = Attributes(mode, *self.new_owner, self.writer.now_ns)
        yield from self.writer.file(place, attributes, len(data), iter((data,)))

    def _unpack(self, archive: Archive, target: str) -> Iterator[bytes]:
        yield from self.writer.directories(target, *self.new_owner)
        yield from archive.unpack(self.writer, target, self.owner, self.copy.chmod)


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory and name else directory or name


def names_of(sources: Sequence[str]) -> str:
    """Return the sources as a message shows them."""
    return " ".join(sources)

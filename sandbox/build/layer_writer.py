"""A layer written file by file over a stage's root: COPY, ADD and WORKDIR need no container.

What the layer has is a tar archive; the store unpacks it as it would a pulled one. Directories on
the way keep the attributes they have below. Links on the way are followed inside the root, and
those that the layer itself has count, too.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from msgspec import Struct, field

from sandbox.build.errors import BuildError
from sandbox.build.tree import Node, Tree, resolve
from sandbox.image.content import CHUNK
from sandbox.image.tar_stream import Entry, Kind
from sandbox.image.tar_writer import END, header, padding

_MOST_LINKS = 40
_SECOND = 10**9


class Attributes(Struct, frozen=True):
    """What a file of the layer is given."""

    mode: int  # permission bits
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)


class LayerWriter:
    """Yields the archive's bytes piece by piece; `end` has to come last."""

    def __init__(self, below: Tree, *, epoch: int | None, now: float) -> None:
        self.below = below
        self.epoch = epoch
        self.now_ns = int(now) * _SECOND
        self.is_empty = True
        self._made: dict[str, tuple[Kind, str]] = {}  # path → kind, and a link's target
        self._known: dict[str, Node | None] = {}

    def moment(self, mtime_ns: int) -> int:
        return mtime_ns if self.epoch is None else min(mtime_ns, self.epoch * _SECOND)

    # ── what is there ──

    def kind(self, path: str) -> Kind | None:
        """Return what *path* is, links on the way not followed; None for nothing."""
        made = self._made.get(path)
        if made is not None:
            return made[0]
        node = self._below(path)
        if node is None:
            return None
        return "dir" if node.is_directory else "symlink" if node.is_link else "file"

    def _below(self, path: str) -> Node | None:
        if path not in self._known:
            if not path:
                self._known[path] = self.below.root
            else:
                parent = posixpath.dirname(path)
                above = self._below(parent)
                hidden = parent in self._made and self._made[parent][0] != "dir"
                found = None
                if above is not None and above.is_directory and not hidden:
                    found = self.below.child(above, posixpath.basename(path))
                self._known[path] = found
        return self._known[path]

    def follow(self, path: str) -> str:
        """Return *path* with all links followed; components that are not there yet stay.

        Raises BuildError for a loop.
        """
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, name])
            target = self._target(here)
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise BuildError(f"too many levels of symbolic links: /{path}")
            if target.startswith("/"):
                done = []
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return "/".join(done)

    def _target(self, path: str) -> str | None:
        made = self._made.get(path)
        if made is not None:
            return made[1] if made[0] == "symlink" else None
        node = self._below(path)
        return self.below.target(node) if node is not None and node.is_link else None

    # ── writing ──

    def directories(self, path: str, uid: int, gid: int) -> Iterator[bytes]:
        """Make *path* (links followed already) and what is missing above it."""
        above = ""
        for name in path.split("/") if path else ():
            above = f"{above}/{name}" if above else name
            yield from self._one_directory(above, uid, gid)

    def _one_directory(self, path: str, uid: int, gid: int) -> Iterator[bytes]:
        if path in self._made and self._made[path][0] == "dir":
            return
        kind = self.kind(path)
        if kind == "dir":
            node = self._below(path)
            assert node is not None
            yield self._head(path, "dir", self.attributes_of(node))
        elif kind is None:
            yield self._head(path, "dir", Attributes(0o755, uid, gid, self.now_ns))
            self.is_empty = False
        else:
            raise BuildError(f"/{path} is not a directory")

    def attributes_of(self, node: Node) -> Attributes:
        """Return what *node* of the tree below has."""
        xattrs = {} if node.is_link else self.below.xattrs(node)
        return Attributes(stat.S_IMODE(node.mode), node.uid, node.gid, node.mtime_ns, xattrs)

    def directory(self, path: str, attributes: Attributes) -> Iterator[bytes]:
        """Make the directory *path*, or give the one that is there other attributes."""
        if self.kind(path) not in (None, "dir"):
            raise BuildError(f"cannot copy to non-directory: /{path}")
        yield self._head(path, "dir", attributes)
        self.is_empty = False

    def file(
        self, path: str, attributes: Attributes, size: int, content: Iterator[bytes]
    ) -> Iterator[bytes]:
        """Write a regular file of *size* bytes."""
        yield self._leaf(path, "file", attributes, size=size)
        yield from content
        if size % 512:
            yield padding(size)

    def link(self, path: str, target: str, attributes: Attributes) -> Iterator[bytes]:
        """Write a symbolic link."""
        yield self._leaf(path, "symlink", attributes, link=target)

    def hard_link(self, path: str, target: str) -> Iterator[bytes]:
        """Write another name of the file *target* of this layer."""
        yield self._leaf(path, "link", Attributes(0o644), link=target)

    def fifo(self, path: str, attributes: Attributes) -> Iterator[bytes]:
        yield self._leaf(path, "fifo", attributes)

    def end(self) -> Iterator[bytes]:
        yield END

    def _leaf(
        self, path: str, kind: Kind, attributes: Attributes, *, size: int = 0, link: str = ""
    ) -> bytes:
        if not path:
            raise BuildError("the root can't be replaced by a file")
        if self.kind(path) == "dir":
            raise BuildError(f"cannot replace the directory /{path} by a file")
        self.is_empty = False
        return self._head(path, kind, attributes, size=size, link=link)

    def _head(
        self, path: str, kind: Kind, attributes: Attributes, *, size: int = 0, link: str = ""
    ) -> bytes:
        if posixpath.basename(path).startswith(".wh."):
            raise BuildError(
                f"/{path} can't be part of an image", detail=".wh. marks deleted files in layers"
            )
        self._made[path] = ("file" if kind == "link" else kind, link)
        entry = Entry(
            os.fsencode(path or "."),
            kind,
            attributes.mode,
            attributes.uid,
            attributes.gid,
            self.moment(attributes.mtime_ns),
            size,
            link=os.fsencode(link),
            xattrs=attributes.xattrs,
            stored=size,
        )
        return header(entry)


def file_content(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield *size* bytes and close; a file that shrinks meanwhile is filled up with zeros."""
    try:
        left = size
        while left:
            data = os.read(descriptor, min(left, CHUNK)) or bytes(min(left, CHUNK))
            left -= len(data)
            yield data
    finally:
        os.close(descriptor)


def directory_exists(tree: Tree, path: str) -> bool:
    node = resolve(tree, path)
    return node is not None and node.is_directory

"""Trees of files that a build reads from: a context directory, or the layers of a stage.

Both are read as hostile: every name is looked up in its directory and never through a link. Links
are followed by `resolve` alone, which never leaves the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from msgspec import Struct

from fuse_overlay import whiteout
from fuse_overlay.ownership import overridden
from sandbox.build.errors import BuildError
from sandbox.build.patterns import IgnoreRules
from sandbox.image.merged import Merged
from sandbox.image.ownership import OVERRIDE
from sandbox.image.shown_xattrs import shown_xattrs
from sandbox.linux.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_MOST_LINKS = 40  # as the kernel


class Node(Struct, frozen=True):
    """A file of a tree."""

    path: str  # from the tree's root, without a leading slash; "" for the root
    mode: int  # st_mode
    uid: int
    gid: int
    size: int
    mtime_ns: int
    identity: tuple[int, int]  # st_dev, st_ino: equal for the names of a hard-linked file
    links: int
    real: Any = None  # what the tree needs to find it again

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Tree(Protocol):
    """What can be read."""

    @property
    def root(self) -> Node: ...

    def child(self, directory: Node, name: str) -> Node | None:
        """Return what *name* in *directory* is; None for nothing."""

    def names(self, directory: Node) -> list[str]:
        """Return the names in *directory*, sorted."""

    def open(self, node: Node) -> int:
        """Return a descriptor of a regular file, for reading."""

    def target(self, node: Node) -> str:
        """Return what a symbolic link says."""

    def xattrs(self, node: Node) -> dict[str, bytes]:
        """Return the extended attributes that belong into an image."""


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


class ContextTree:
    """A directory of the user's. Owners don't count: everything is root's."""

    def __init__(self, directory: str, rules: IgnoreRules | None = None) -> None:
        self.rules = rules or IgnoreRules(())
        self._kept: dict[str, bool] = {}  # ignored directories: is there an exception below?
        try:
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise BuildError(f"can't read the context {directory}", detail=err.strerror) from err

    def close(self) -> None:
        os.close(self._root)

    @property
    def root(self) -> Node:
        return self._node("", os.fstat(self._root))

    def child(self, directory: Node, name: str) -> Node | None:
        path = join(directory.path, name)
        try:
            descriptor = self._open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise _unreadable(path, err) from err
        try:
            node = self._node(path, os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return None if self._is_ignored(node) else node

    def _is_ignored(self, node: Node) -> bool:
        if not self.rules.ignores(node.path):
            return False
        # An ignored directory is there for the exceptions in it.
        return not (node.is_directory and self._any_below(node))

    def _any_below(self, directory: Node) -> bool:
        if not self.rules.may_except_below(directory.path):
            return False
        known = self._kept.get(directory.path)
        if known is None:
            known = any(self.child(directory, name) for name in self._all_names(directory))
            self._kept[directory.path] = known
        return known

    def names(self, directory: Node) -> list[str]:
        names = self._all_names(directory)
        if not self.rules:
            return names
        return [name for name in names if self.child(directory, name)]

    def _all_names(self, directory: Node) -> list[str]:
        try:
            descriptor = self._open(directory.path or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as err:
            raise _unreadable(directory.path, err) from err
        try:
            return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def open(self, node: Node) -> int:
        try:
            descriptor = self._open(node.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as err:
            raise _unreadable(node.path, err) from err
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BuildError(f"{node.path} has changed during the build")
        return descriptor

    def target(self, node: Node) -> str:
        try:
            descriptor = self._open(node.path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as err:
            raise _unreadable(node.path, err) from err
        try:
            return os.readlink("", dir_fd=descriptor)  # readlinkat(2): of the descriptor itself
        finally:
            os.close(descriptor)

    def xattrs(self, node: Node) -> dict[str, bytes]:
        return {}  # the user's own affair, as in docker

    def _open(self, path: str, flags: int) -> int:
        return openat2(self._root, path, flags | os.O_CLOEXEC, resolve=_RESOLVE)

    def _node(self, path: str, status: os.stat_result) -> Node:
        return Node(
            path,
            status.st_mode,
            0,
            0,
            status.st_size,
            status.st_mtime_ns,
            (status.st_dev, status.st_ino),
            status.st_nlink,
        )


def _unreadable(path: str, err: OSError) -> BuildError:
    return BuildError(f"can't read {path or '.'} of the context", detail=err.strerror)


class ImageTree:
    """The merged view of layers. It changes the working directory (see `image.merged`)."""

    def __init__(self, lower: tuple[str, ...]) -> None:
        self._merged = Merged(None, lower) if lower else None

    def close(self) -> None:
        if self._merged is not None:
            self._merged.close()

    @property
    def root(self) -> Node:
        if self._merged is None:
            return Node("", stat.S_IFDIR | 0o755, 0, 0, 0, 0, (0, 0), 1, ((), None, b""))
        dirs = self._merged.root
        return self._node("", os.fstat(dirs[0].open()), (dirs, dirs[0], b"."))

    def child(self, directory: Node, name: str) -> Node | None:
        if self._merged is None:
            return None
        found = self._merged.find(directory.real[0], os.fsencode(name))
        if found is None:
            return None
        status = os.stat(found.name, dir_fd=found.where.open(), follow_symlinks=False)
        real = (tuple(found.dirs), found.where, found.name)
        return self._node(join(directory.path, name), status, real)

    def names(self, directory: Node) -> list[str]:
        if self._merged is None:
            return []
        return [os.fsdecode(name) for name in self._merged.names(directory.real[0])]

    def open(self, node: Node) -> int:
        _, where, name = node.real
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=where.open())

    def target(self, node: Node) -> str:
        _, where, name = node.real
        return os.fsdecode(os.readlink(name, dir_fd=where.open()))

    def xattrs(self, node: Node) -> dict[str, bytes]:
        _, where, name = node.real
        if where is None:
            return {}
        where.enter()
        return shown_xattrs(name, whiteout.list_xattrs(name))

    def _node(self, path: str, status: os.stat_result, real: Any) -> Node:
        mode, uid, gid = status.st_mode, status.st_uid, status.st_gid
        _, where, name = real
        where.enter()
        text = whiteout.read_xattr(name, OVERRIDE.encode())
        if text is not None:
            mode, uid, gid, _ = overridden(text, (mode, uid, gid, 0))
        identity = status.st_dev, status.st_ino
        return Node(
            path,
            mode,
            uid,
            gid,
            status.st_size,
            status.st_mtime_ns,
            identity,
            status.st_nlink,
            real,
        )


def resolve(tree: Tree, path: str, *, follow: bool = True) -> Node | None:
    """Return what *path* leads to, links followed inside the tree; None for nothing.

    With *follow* false a link at the end is returned itself. Raises BuildError for a loop.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    trail = [tree.root]
    links = 0
    while pending:
        name = pending.pop()
        if name == "..":
            if len(trail) > 1:
                trail.pop()
            continue
        if not trail[-1].is_directory:
            return None
        node = tree.child(trail[-1], name)
        if node is None:
            return None
        if node.is_link and (pending or follow):
            links += 1
            if links > _MOST_LINKS:
                raise BuildError(f"too many levels of symbolic links: {path}")
            target = tree.target(node)
            if target.startswith("/"):
                trail = [tree.root]
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            continue
        trail.append(node)
    return trail[-1]


def walk(tree: Tree, top: Node) -> Iterator[Node]:
    """Yield *top* and all below it, directories before what is in them, names in order."""
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        if node.is_directory:
            children = (tree.child(node, name) for name in reversed(tree.names(node)))
            pending += [child for child in children if child is not None]


def read_file(tree: Tree, path: str, most: int) -> bytes | None:
    """Return the first *most* bytes of a regular file; None when there is none."""
    with suppress(BuildError, OSError):
        node = resolve(tree, path)
        if node is not None and node.is_file:
            with open(tree.open(node), "rb") as file:
                return file.read(most)
    return None

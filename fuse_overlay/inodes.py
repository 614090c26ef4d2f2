"""The merged view's inodes that the kernel knows, by node id.

A node id is also the st_ino that programs see, so it is made from the real inode's number and its
device, and a copied-up file keeps the one it had (`whiteout.INO` in the upper remembers it). The
kernel counts its references and gives them back with FORGET (fuse(4)).
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable

from . import seen
from .layers import LayerDir

ROOT = 1
_DEVICE_SHIFT = 48
_FOLDED = 1 << _DEVICE_SHIFT  # larger numbers have to be made smaller
_FRESH = 1 << 62
IDLE_LIMIT = 256


class Node:
    """A file, link or device: where it is in the merged view and which real file it is."""

    __slots__ = (
        "fd",
        "flags",
        "gone",
        "id",
        "in_upper",
        "ino",
        "kind",
        "lookups",
        "name",
        "opens",
        "parent",
        "real",
        "stale",
        "stamp",
        "where",
    )

    def __init__(
        self, node_id: int, parent: Dir | None, name: bytes, where: LayerDir, real: bytes, kind: int
    ) -> None:
        self.id = node_id
        self.parent = parent
        self.name = name
        self.where = where  # the real directory that holds it ...
        self.real = real  # ... and its name there
        self.kind = kind  # S_IFMT of its mode
        self.in_upper = where.layer.upper
        self.ino = 0  # the real inode's number in the upper; in a live lower its proper id
        self.lookups = 0
        self.fd = -1  # one descriptor serves all opens
        self.opens = 0
        self.flags = 0
        self.gone = False  # no name is left (or none that we know)
        self.stale: os.stat_result | None = None  # last attributes of what is gone for good
        self.stamp = 0  # what the content of a live lower's file was told by

    def stat(self) -> os.stat_result:
        """The real file's attributes."""
        if self.fd >= 0:
            return os.fstat(self.fd)
        if self.stale is not None:
            return self.stale
        where = self.where
        return os.stat(
            self.real, dir_fd=where.fd if where.fd >= 0 else where.open(), follow_symlinks=False
        )


# Node.flags
WRITABLE = 1  # fd was opened for reading and writing
NO_CAPABILITY = 2  # known to have no security.capability
SUID = 4  # a write has to clear set-id bits
HELD = 8  # fd must stay: there is no other way to the file
LINKED = 16  # has an entry in the index of hard links
DEVICE = 32  # shown as a device 0:0
PARKED = 64  # among the idle
NAMELESS = 128  # the name we knew is gone, though others are left


class Dir(Node):
    """A directory: merged from an upper and any number of lowers."""

    __slots__ = (
        "children",
        "gid",
        "lower_path",
        "lowers",
        "redirected",
        "upper",
        "version",
    )

    def __init__(
        self,
        node_id: int,
        parent: Dir | None,
        name: bytes,
        upper: LayerDir | None,
        lowers: tuple[LayerDir, ...],
    ) -> None:
        top = upper or lowers[0]
        super().__init__(node_id, parent, name, top.parent or top, top.name, stat.S_IFDIR)
        self.upper = upper
        self.in_upper = upper is not None
        self.lowers = lowers
        self.lower_path: bytes | None = None  # where the lowers have it, if not at parent + name
        self.version = 0  # counts changes to the names in it
        self.redirected = False  # the upper has a redirect mark
        self.children = 0  # nodes that name this one as their parent
        self.gid = -1  # what new files inherit (setgid), -1 unknown, -2 the caller's own

    @property
    def top(self) -> LayerDir:
        """The real directory whose attributes are shown."""
        return self.upper or self.lowers[0]

    def stat(self) -> os.stat_result:
        if self.stale is not None:
            return self.stale
        return os.fstat(self.top.open())


class UnknownNode(Exception):
    """A node id that was not given out, or given back."""


class Nodes(dict[int, Node]):
    """The live nodes by id; `seen` files become nodes when they are asked for."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, seen.Record] = {}

    def __missing__(self, key: int) -> Node:
        kept = self.seen.pop(key, None)
        if kept is None:
            raise UnknownNode(key)
        parent = self[seen.parent_of(kept)]
        assert isinstance(parent, Dir)
        where, name, kind, stamp = seen.details(kept, parent)
        node = self[key] = Node(key, parent, name, where, name, kind)
        node.lookups = 1
        if stamp:
            node.stamp, node.ino = stamp, key
        return node


class Table:
    """All live nodes, and the making of node ids."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.seen = self.nodes.seen
        self.by_ino: dict[int, Node] = {}  # files of the upper, by real inode number
        self.replaced: dict[int, Node] = {}  # by proper id: files of a live lower that changed
        self.idle: deque[Node] = deque()  # have a descriptor that may be closed
        self.untold_opens = False  # the kernel opens files without telling
        self.leaving: set[Node] = set()  # without a name: they go when the kernel forgets them
        self.on_freed: Callable[[Node, os.stat_result], None] | None = None
        self._devices: dict[int, int] = {}
        self._fresh = _FRESH

    def know_device(self, device: int) -> None:
        """Number a layer's device now, so that ids are the same at every mount."""
        self._devices.setdefault(device, len(self._devices) << _DEVICE_SHIFT)

    def id_of(self, st: os.stat_result) -> int:
        """The id of a real inode."""
        base = self._devices.get(st.st_dev)
        ino = st.st_ino
        if base is not None and ROOT < ino < _FOLDED:
            return base + ino
        return self.plain_id(st.st_dev, ino)

    def plain_id(self, device: int, ino: int) -> int:
        """The id of a real inode by its device and number."""
        base = self._devices.get(device)
        if base is None:
            base = self._devices.setdefault(device, len(self._devices) << _DEVICE_SHIFT)
        if ino >> _DEVICE_SHIFT:
            ino = (ino ^ (ino >> _DEVICE_SHIFT)) & ((1 << _DEVICE_SHIFT) - 1)
        node_id = base + ino
        return node_id if node_id > ROOT else self.fresh_id()

    def fresh_id(self) -> int:
        """An id that no real inode has; it lasts for this mount only."""
        self._fresh += 1
        return self._fresh

    def see(self, node_id: int, parent: Dir, kept: seen.Record) -> None:
        """Enter a file that the kernel is told of."""
        self.seen[node_id] = kept
        parent.children += 1

    def known(self, node_id: int) -> Node | None:
        """The live node of an id, if there is one."""
        node = self.nodes.get(node_id)
        if node is None and node_id in self.seen:
            return self.nodes[node_id]
        return node

    def in_use(self, node: Node) -> bool:
        """Whether a program may have the file open."""
        if self.untold_opens:
            return node.lookups > 0 and node.kind == stat.S_IFREG
        return node.opens > 0

    def add(self, node: Node) -> None:
        """Enter a new node."""
        self.nodes[node.id] = node
        if node.ino and node.kind != stat.S_IFDIR and node.in_upper:
            self.by_ino[node.ino] = node
        if node.parent is not None:
            node.parent.children += 1

    def move(self, node: Node, parent: Dir, name: bytes) -> None:
        """Give a node its place in the merged view."""
        node.flags &= ~NAMELESS
        node.name = name
        old = node.parent
        if old is not parent:
            node.parent = parent
            parent.children += 1
            if old is not None:
                old.children -= 1
                self.drop_unused(old)

    def forget(self, node_id: int, count: int) -> None:
        """The kernel gives references back."""
        node = self.nodes.get(node_id)
        if node is not None:
            node.lookups -= count
            if node.lookups <= 0:
                self.drop_unused(node)
            return
        kept = self.seen.pop(node_id, None)
        if kept is not None:
            parent = self.nodes[seen.parent_of(kept)]
            assert isinstance(parent, Dir)
            parent.children -= 1
            if parent.lookups <= 0:
                self.drop_unused(parent)

    def drop_unused(self, node: Node | None) -> None:
        """Drop a node that neither the kernel nor a child needs, and then perhaps its parent."""
        while node is not None and node.lookups <= 0 and node.id != ROOT and not node.opens:
            if isinstance(node, Dir) and node.children:
                return
            if self.nodes.pop(node.id, None) is None:
                return
            if node.fd >= 0:
                self.release_fd(node)
            if node.ino and self.by_ino.get(node.ino) is node:
                del self.by_ino[node.ino]
            if node.stamp and self.replaced.get(node.ino) is node:
                del self.replaced[node.ino]
            parent = node.parent
            if parent is not None:
                parent.children -= 1
            node = parent

    def give_fd(self, node: Node, fd: int) -> None:
        """Let a node have a descriptor, which may be closed again unless the node is held."""
        node.fd = fd
        if node.gone and node.in_upper:
            self.leaving.add(node)
        self.park(node)

    def release_fd(self, node: Node) -> None:
        """Close a node's descriptor; if no name is left, that frees the file."""
        fd, node.fd = node.fd, -1
        node.flags &= ~WRITABLE
        if node.gone and node.in_upper:
            self.leaving.discard(node)
            if self.on_freed is not None:
                self.on_freed(node, os.fstat(fd))
        os.close(fd)

    def park(self, node: Node) -> None:
        """Keep a descriptor as long as there is room, the oldest of such making it."""
        if node.flags & PARKED:
            return
        idle = self.idle
        idle.append(node)
        node.flags |= PARKED
        if len(idle) > IDLE_LIMIT:
            old = idle.popleft()
            old.flags &= ~PARKED
            if old.fd >= 0 and not old.opens and not old.flags & HELD:
                self.release_fd(old)

    def released(self, node: Node) -> None:
        """A handle was closed."""
        node.opens -= 1
        if node.opens:
            return
        if node.lookups <= 0:
            self.drop_unused(node)
        elif not node.flags & HELD:
            self.park(node)

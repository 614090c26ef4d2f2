"""What one mounted overlay knows: its layers, its live inodes and how it was asked to behave."""

from __future__ import annotations

import os
import stat

from . import whiteout
from .config import Config
from .hardlinks import Index
from .inodes import LINKED, ROOT, Dir, Node, Table
from .layers import NO_MARKS, Layer, LayerDir, hidden_tree
from .ownership import Ownership
from .quota import Quota
from .work import Work

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Overlay:
    """The state that the modules of operations share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.table = Table()
        self.work: Work | None = None
        self.index: Index | None = None
        self.quota: Quota | None = None
        self.upper: Layer | None = None
        self.xattrs = False  # the upper keeps user xattrs
        self.ownership = Ownership(config)
        self.uid, self.gid = os.geteuid(), os.getegid()  # whose a file is that we make
        if config.upper is not None:
            self._open_upper(config)
        self.lowers = tuple(
            self._open_lower(config, number + 1, lower) for number, lower in enumerate(config.lower)
        )
        self.last_layer = len(self.lowers)
        self.root = self._make_root()

    def _open_upper(self, config: Config) -> None:
        assert config.upper is not None
        assert config.work is not None
        fd = _open(config.upper)
        work_fd = _open(config.work)
        st = os.fstat(fd)
        if st.st_dev != os.fstat(work_fd).st_dev:
            raise ValueError("the upper and the work directory are on different file systems")
        self.table.know_device(st.st_dev)
        self.upper = Layer(0, fd, upper=True)
        self.upper.dot_marks = config.dot_marks
        self.work = Work(work_fd)
        self.xattrs = _keeps_xattrs(self.work.fd)
        if self.xattrs:
            self.index = Index(self.upper, work_fd)
        root = self.upper.root
        root.found_marks = None if config.dot_marks else NO_MARKS
        root.settle()
        self._read_root_marks(root)
        if config.size is not None or config.inodes is not None:
            self.quota = Quota(config.size, config.inodes)
            self.quota.measure(fd)
            self.table.on_freed = self._count_freed

    def _open_lower(self, config: Config, number: int, where: str | int) -> Layer:
        fd = _open(where)
        self.table.know_device(os.fstat(fd).st_dev)
        layer = Layer(number, fd)
        layer.live = config.live_lower
        layer.world_only = config.world_readable_only
        layer.squash = config.squash_overflow
        layer.dot_marks = config.dot_marks
        root = layer.root
        root.found_marks = None if config.dot_marks else NO_MARKS
        root.hidden = hidden_tree(config.hidden)
        root.settle()
        self._read_root_marks(root)
        return layer

    def _read_root_marks(self, root: LayerDir) -> None:
        attributes = whiteout.list_xattrs(root.fd)
        root.nodes = whiteout.NODES.decode() in attributes
        if whiteout.has_xwhiteouts(root.fd, attributes):
            root.find_xwhiteouts()

    def _make_root(self) -> Dir:
        upper = self.upper.root if self.upper is not None else None
        lowers: list[LayerDir] = []
        opaque = upper is not None and _is_opaque_root(upper)
        for lower in self.lowers:
            if opaque:
                break
            lowers.append(lower.root)
            opaque = _is_opaque_root(lower.root)
        root = Dir(ROOT, None, b"", upper, tuple(lowers))
        root.lookups = 1
        st = root.stat()
        root.gid = st.st_gid if st.st_mode & stat.S_ISGID else -2
        self.table.add(root)
        return root

    def _count_freed(self, node: Node, st: os.stat_result) -> None:
        if self.quota is not None and st.st_nlink == 0:
            self.quota.add(-st.st_blocks, -1)

    def nlink(self, node: Node, st: os.stat_result) -> int:
        """The number of names: a merged directory says 1, which means "not counted"."""
        if isinstance(node, Dir):
            if node.gone:
                return 0
            pure = len(node.lowers) + node.in_upper == 1
            return st.st_nlink if pure and not self.config.static_nlink else 1
        if self.index is not None and (node.flags & LINKED or not node.in_upper):
            return self.index.nlink(node, st)
        return st.st_nlink


def _open(where: str | int) -> int:
    """A descriptor of our own that can be listed, for a path or an open directory."""
    if isinstance(where, str):
        return os.open(where, _OPEN)
    return os.open(b".", _OPEN, dir_fd=where)


def _is_opaque_root(root: LayerDir) -> bool:
    if whiteout.DOT_OPAQUE in root.marks().names:
        return True
    return whiteout.is_opaque(root.fd, whiteout.list_xattrs(root.fd))


def _keeps_xattrs(fd: int) -> bool:
    try:
        os.setxattr(fd, whiteout.PLAIN, b"y")
        os.removexattr(fd, whiteout.PLAIN)
    except OSError:
        return False
    return True

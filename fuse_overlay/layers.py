"""The directories of the layers, each reached by file descriptor and never through a link.

A `LayerDir` is one real directory. Its descriptor is opened when wanted, from its parent's and by
one component with O_NOFOLLOW, so nothing in a layer can lead out of it. Open descriptors are kept
up to a limit, oldest out first.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass

from . import whiteout

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# A hidden path is a leaf (None) of a tree of names.
Hidden = dict[bytes, "Hidden | None"]


class Layer:
    """One lower or the upper, and how far its content is to be trusted and shown."""

    __slots__ = (
        "device",
        "dot_marks",
        "index",
        "live",
        "no_atime",
        "root",
        "squash",
        "upper",
        "world_only",
    )

    def __init__(self, index: int, fd: int, *, upper: bool = False) -> None:
        self.index = index
        self.device = os.fstat(fd).st_dev
        self.upper = upper
        self.live = False
        self.no_atime = True  # O_NOATIME is allowed
        self.world_only = False
        self.squash = False
        self.dot_marks = True
        self.root = LayerDir(self, None, b"", fd)


@dataclass(frozen=True, slots=True)
class Marks:
    """What the names of one directory say about those below: all but the 0:0 devices."""

    hidden: frozenset[bytes] = frozenset()  # names that a mark hides
    names: frozenset[bytes] = frozenset()  # names that are nothing but marks


NO_MARKS = Marks()


class LayerDir:
    """A real directory of a layer. The upper's may be renamed; a lower's never changes."""

    __slots__ = (
        "blank",
        "denied",
        "fd",
        "found_marks",
        "hidden",
        "layer",
        "name",
        "nodes",
        "parent",
        "simple",
    )

    def __init__(self, layer: Layer, parent: LayerDir | None, name: bytes, fd: int = -1) -> None:
        self.layer = layer
        self.parent = parent
        self.name = name
        self.fd = fd
        self.hidden: Hidden | None = None
        self.blank = False  # shown as an empty directory
        self.nodes = False  # has devices 0:0 that users made
        self.denied = 0  # R_OK, X_OK: what the world may not do here
        self.found_marks: Marks | None = None if layer.dot_marks else NO_MARKS
        self.simple = False  # a name here is what fstatat says of it, nothing else to ask
        self.settle()

    def settle(self) -> None:
        """Find out whether the directory is a `simple` one; call again when that may change."""
        self.simple = (
            self.found_marks is NO_MARKS
            and self.hidden is None
            and not self.blank
            and not self.denied
        )

    def open(self) -> int:
        """The directory's descriptor, which stays ours."""
        if self.fd >= 0:
            return self.fd
        chain = [self]
        while chain[-1].fd < 0:
            parent = chain[-1].parent
            assert parent is not None
            chain.append(parent)
        fd = chain.pop().fd
        while chain:
            step = chain.pop()
            fd = step.fd = _open_dir(step.name, fd)
            _opened.append(step)
        _close_oldest()
        return fd

    def close(self) -> None:
        """Give the descriptor back; the next open() gets a new one."""
        if self.fd >= 0 and self.parent is not None:
            os.close(self.fd)
            self.fd = -1

    def enter(self) -> None:
        """Make it the working directory: the l*xattr calls take no dir_fd."""
        os.fchdir(self.fd if self.fd >= 0 else self.open())

    def child(self, name: bytes, st: os.stat_result) -> LayerDir:
        """The real directory *name* in this one."""
        found = LayerDir(self.layer, self, name)
        if self.hidden is not None and name in self.hidden:
            found.hidden = self.hidden[name]
            found.blank = found.hidden is None
        # A blank directory shows nothing of the real one, so nothing is to be denied.
        if self.layer.world_only and not found.blank:
            found.denied = ~st.st_mode & (os.R_OK | os.X_OK)
        found.settle()
        return found

    def stat(self, name: bytes) -> os.stat_result | None:
        """fstatat(2) of a name here, without following it; None if there is none."""
        if self.blank:
            return None
        if self.denied & os.X_OK:
            raise PermissionError(errno.EACCES, "not searchable by others", name)
        try:
            st = os.stat(
                name, dir_fd=self.fd if self.fd >= 0 else self.open(), follow_symlinks=False
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        if self.hidden is not None and not stat.S_ISDIR(st.st_mode) and self.hides(name):
            return None
        return st

    def has_opaque_mark(self, name: bytes) -> bool:
        """Whether the directory *name* in this one is made opaque in the OCI way."""
        mark = name + b"/" + whiteout.DOT_OPAQUE
        try:
            st = os.stat(mark, dir_fd=self.open(), follow_symlinks=False)
        except OSError:
            return False
        if not stat.S_ISREG(st.st_mode) or st.st_size:
            return False
        self.enter()
        return whiteout.read_xattr(mark, whiteout.PLAIN) is None

    def hides(self, name: bytes) -> bool:
        """Whether *name* is one of the paths whose content is not to be seen."""
        return self.hidden is not None and self.hidden.get(name, self.hidden) is None

    def names(self) -> list[bytes]:
        """The names on disk, marks and all."""
        if self.blank:
            return []
        self.check_readable()
        self.enter()
        return os.listdir(b".")

    def check_readable(self) -> None:
        """EACCES if the world may not list the directory."""
        if self.denied & os.R_OK:
            raise PermissionError(errno.EACCES, "not readable by others", self.name)

    def marks(self) -> Marks:
        """The marks that have to be looked for by name, read once per directory."""
        if self.found_marks is None:
            try:
                self.read_marks(self.names())
            except PermissionError:
                self.read_marks([])
        assert self.found_marks is not None
        return self.found_marks

    def read_marks(self, names: list[bytes]) -> None:
        """Find the marks among the *names* on disk."""
        self.found_marks = NO_MARKS
        dotted = [name for name in names if name.startswith(whiteout.DOT)]
        own = frozenset(name for name in dotted if self._is_dot_mark(name))
        if own:
            self.found_marks = Marks(
                frozenset(name[len(whiteout.DOT) :] for name in own - {whiteout.DOT_OPAQUE}),
                own,
            )
        self.settle()

    def find_xwhiteouts(self) -> None:
        """Read the whiteouts that are xattrs: only a directory that is marked "x" has any."""
        marks = self.marks()
        found = set()
        for name in self.names():
            st = self.stat(name)
            if st is not None and stat.S_ISREG(st.st_mode) and not st.st_size:
                self.enter()
                if whiteout.read_xattr(name, whiteout.XWHITEOUT) is not None:
                    found.add(name)
        self.found_marks = Marks(marks.hidden | found, marks.names | found)
        self.settle()

    def _is_dot_mark(self, name: bytes) -> bool:
        """An empty regular file is a mark, unless we made it for a user who wanted that name."""
        st = self.stat(name)
        if st is None or not stat.S_ISREG(st.st_mode) or st.st_size:
            return False
        self.enter()
        return whiteout.read_xattr(name, whiteout.PLAIN) is None


def _open_dir(name: bytes, dir_fd: int) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=dir_fd)
    except PermissionError:
        # Searchable but not readable: enough to go through.
        return os.open(name, _OPEN_PATH, dir_fd=dir_fd)


_opened: deque[LayerDir] = deque()
_limit = 1024


def keep_open(limit: int) -> None:
    """How many directory descriptors may stay open."""
    global _limit
    _limit = limit


def _close_oldest() -> None:
    while len(_opened) > _limit:
        _opened.popleft().close()


def hidden_tree(paths: tuple[str, ...]) -> Hidden | None:
    """The tree of names whose leaves are *paths* ("/home/u", "run")."""
    tree: Hidden = {}
    for path in paths:
        parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
        node = tree
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            if below is None:  # already hidden as a whole
                break
            node = below
        else:
            if parts:
                node[parts[-1]] = None
    return tree or None

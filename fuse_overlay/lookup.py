"""Finding names: which real file or directories a name of the merged view stands for.

Source: Documentation/filesystems/overlayfs.rst, "Upper and Lower", "whiteouts and opaque
directories", "redirect_dir".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import seen, whiteout
from .inodes import DEVICE, LINKED, Dir, Node
from .layers import NO_MARKS, LayerDir

if TYPE_CHECKING:
    from .state import Overlay


_64_BITS = (1 << 64) - 1
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Found:
    """What a name stands for: one real file, or the directories to merge (top first)."""

    __slots__ = ("attributes", "dirs", "name", "st", "where")

    def __init__(self, where: LayerDir, name: bytes, st: os.stat_result) -> None:
        self.where = where
        self.name = name
        self.st = st
        self.dirs: list[LayerDir] = []
        self.attributes: list[str] = []  # xattr names of the top directory, if they were read


def search(overlay: Overlay, dirs: Sequence[LayerDir], name: bytes) -> Found | None:
    """Look *name* up in *dirs*, which are merged, topmost first."""
    found: Found | None = None
    for here in dirs:
        marks = NO_MARKS
        if here.simple:
            try:
                st = os.stat(
                    name, dir_fd=here.fd if here.fd >= 0 else here.open(), follow_symlinks=False
                )
            except FileNotFoundError:
                continue
        else:
            marks = here.marks()
            looked = here.stat(name)
            if looked is None or name in marks.names:
                if name in marks.hidden:
                    break
                continue
            st = looked
        if not stat.S_ISDIR(st.st_mode):
            if found is not None or whiteout.is_whiteout(st):
                break
            return Found(here, name, st)
        if found is None:
            found = Found(here, name, st)
        below = here.child(name, st)
        found.dirs.append(below)
        if here.layer.index >= overlay.last_layer or name in marks.hidden:
            break
        if here.layer.dot_marks and here.has_opaque_mark(name):
            break
        here.enter()
        attributes = whiteout.list_xattrs(name)
        if len(found.dirs) == 1:
            found.attributes = attributes
        if attributes:
            below.nodes = whiteout.NODES.decode() in attributes
            if whiteout.is_opaque(name, attributes):
                break
            if whiteout.has_xwhiteouts(name, attributes):
                below.find_xwhiteouts()
                here.enter()
            redirect = whiteout.redirect_of(name, attributes)
            if redirect is not None:
                if redirect[0] == b"":
                    found.dirs += walk(overlay, here.layer.index, redirect[1:])
                    break
                name = redirect[0]
    return found


def walk(overlay: Overlay, above: int, path: Sequence[bytes]) -> list[LayerDir]:
    """The directories of a path from the root, in the layers below number *above*."""
    dirs = [lower.root for lower in overlay.lowers if lower.index > above]
    for name in path:
        found = search(overlay, dirs, name)
        if found is None or not found.dirs:
            return []
        dirs = found.dirs
    return dirs


def in_lowers(overlay: Overlay, parent: Dir, name: bytes) -> Found | None:
    """What the lowers have at a name: what a whiteout would have to hide."""
    return search(overlay, parent.lowers, name) if parent.lowers else None


def find(overlay: Overlay, parent: Dir, name: bytes) -> tuple[Node, os.stat_result]:
    """The node at a name of the merged view, and its real attributes."""
    found = find_if_any(overlay, parent, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such name", name)
    return found


def find_if_any(overlay: Overlay, parent: Dir, name: bytes) -> tuple[Node, os.stat_result] | None:
    """As `find`; None for a name that is not there."""
    located = _locate(overlay, parent, name)
    if located is None:
        return None
    where, st, found = located
    if found is not None and found.dirs:
        return dir_node(overlay, parent, name, found), st
    return file_node(overlay, parent, name, where, st)


Told = tuple[int, "Node | None", os.stat_result]
"""What the kernel is told of: its id, the node unless it is only `seen`, its real attributes."""


def enter(overlay: Overlay, parent: Dir, name: bytes) -> Told | None:
    """Look a name up for the kernel, which gets a reference; None for one that is not there."""
    located = _locate(overlay, parent, name)
    if located is None:
        return None
    where, st, found = located
    if found is not None and found.dirs:
        node = dir_node(overlay, parent, name, found)
        node.lookups += 1
        return node.id, node, st
    return enter_file(overlay, parent, name, where, st)


def enter_file(
    overlay: Overlay, parent: Dir, name: bytes, where: LayerDir, st: os.stat_result
) -> Told:
    """Tell the kernel of a file that was found in one layer."""
    table = overlay.table
    layer = where.layer
    mode = st.st_mode
    if (
        not layer.upper
        and not where.nodes
        and not mode & _SET_ID
        and not overlay.ownership.override
    ):
        node_id = table.id_of(st)
        if (
            node_id not in table.seen
            and node_id not in table.nodes
            and not table.replaced
            and (st.st_nlink == 1 or overlay.index is None or layer.live)
        ):
            stamp = _stamp(st) if layer.live else 0
            kept = seen.record(parent.id, where, name, stat.S_IFMT(mode), stamp)
            table.see(node_id, parent, kept)
            return node_id, None, st
    node, st = file_node(overlay, parent, name, where, st)
    node.lookups += 1
    return node.id, node, st


def _locate(
    overlay: Overlay, parent: Dir, name: bytes
) -> tuple[LayerDir, os.stat_result, Found | None] | None:
    """In which real directory a name of the merged view is, and its attributes there."""
    if parent.gone:
        raise FileNotFoundError(errno.ENOENT, "removed directory", name)
    dirs = (parent.upper, *parent.lowers) if parent.upper is not None else parent.lowers
    for here in dirs:  # most names are those of files, in directories without marks
        if not here.simple:
            break
        try:
            st = os.stat(
                name, dir_fd=here.fd if here.fd >= 0 else here.open(), follow_symlinks=False
            )
        except FileNotFoundError:
            continue
        kind = stat.S_IFMT(st.st_mode)
        if kind == stat.S_IFDIR:
            break
        if kind == stat.S_IFCHR and st.st_rdev == 0:
            return None
        return here, st, None
    else:
        return None
    found = search(overlay, dirs, name)
    return None if found is None else (found.where, found.st, found)


def file_node(
    overlay: Overlay, parent: Dir, name: bytes, where: LayerDir, st: os.stat_result
) -> tuple[Node, os.stat_result]:
    """The node of a file that was found in one layer, and its attributes.

    A hard link of the lower that has been copied up under another name stands for the copy.
    """
    table = overlay.table
    real = name
    linked = 0
    kind = stat.S_IFMT(st.st_mode)
    if where.nodes and _is_user_whiteout(where, name, st):
        kind = stat.S_IFCHR
        linked = DEVICE
    if where.layer.upper:
        known = table.by_ino.get(st.st_ino)
        if known is not None and _is_same(known, where, st, kind):
            known.where, known.real = where, real
            table.move(known, parent, name)
            return known, st
        node_id = upper_id(overlay, where, name, st)
    else:
        node_id = table.id_of(st)
        if (
            st.st_nlink > 1
            and overlay.index is not None
            and not where.layer.live
            and node_id in overlay.index.copied
        ):
            linked |= LINKED
            copy = overlay.index.stat(node_id)
            where, real, st = overlay.index.dir, overlay.index.name(node_id), copy
    proper_id = node_id
    node = table.known(node_id)
    if table.replaced:
        node = table.replaced.get(node_id, node)
    if node is not None:
        if _is_same(node, where, st, kind):
            if node.fd < 0 or where.layer.upper:
                node.where, node.real = where, real
            node.flags |= linked
            table.move(node, parent, name)
            return node, st
        if overlay.index is None and node.in_upper and not where.layer.live and not node.gone:
            return node, node.stat()  # another name of a copy that no index could record
        node_id = table.fresh_id()
    node = Node(node_id, parent, name, where, real, kind)
    node.flags = linked
    if where.layer.live:
        node.ino, node.stamp = proper_id, _stamp(st)
        if node_id != proper_id:
            table.replaced[proper_id] = node
    elif where.layer.upper:
        node.ino = st.st_ino
        if overlay.index is not None and st.st_nlink > 1 and node_id in overlay.index.copied:
            node.flags |= LINKED
    table.add(node)
    return node, st


def _is_user_whiteout(where: LayerDir, name: bytes, st: os.stat_result) -> bool:
    where.enter()
    return whiteout.is_user_whiteout(name, st)


def _is_same(node: Node, where: LayerDir, st: os.stat_result, kind: int) -> bool:
    """Whether a live node with the right id is the file that was found."""
    if node.gone or node.kind != kind:
        return False
    if node.in_upper:
        return where.layer.upper and node.ino == st.st_ino
    if where.layer.live and node.stamp != _stamp(st):
        return False
    return not where.layer.upper


def _stamp(st: os.stat_result) -> int:
    """What tells one content of a file from the next, in 64 bits. Never 0."""
    return (st.st_mtime_ns << 8 ^ st.st_size << 1) & _64_BITS | 1


def upper_id(overlay: Overlay, where: LayerDir, name: bytes, st: os.stat_result) -> int:
    """The id of a file in the upper: the one it had below, if it was copied up."""
    kept = overlay.index.kept.get(st.st_ino) if overlay.index is not None else None
    if kept is None and stat.S_ISREG(st.st_mode) and overlay.xattrs:
        where.enter()
        kept = number(whiteout.read_xattr(name, whiteout.INO))
    return overlay.table.id_of(st) if kept is None else kept


def number(text: bytes | None) -> int | None:
    """A node id as it is kept in an xattr."""
    if text is None or not text.isdigit() or len(text) > 19:
        return None
    value = int(text)
    return value if 1 < value < 1 << 62 else None


def dir_node(overlay: Overlay, parent: Dir, name: bytes, found: Found) -> Dir:
    """The node of a merged directory."""
    table = overlay.table
    upper = found.dirs[0] if found.where.layer.upper else None
    lowers = tuple(found.dirs[1:] if upper else found.dirs)
    node_id = None
    if upper is not None and whiteout.INO.decode() in found.attributes:
        found.where.enter()
        node_id = number(whiteout.read_xattr(found.name, whiteout.INO))
    if node_id is None and upper is not None and lowers:
        node_id = table.id_of(os.fstat(lowers[0].open()))
    if node_id is None:
        node_id = table.id_of(found.st)
    node = table.known(node_id)
    if node is not None:
        if _is_same_dir(node, parent, name, upper):
            assert isinstance(node, Dir)
            return node
        node_id = table.fresh_id()
    made = Dir(node_id, parent, name, upper, lowers)
    if upper is not None:
        made.ino = found.st.st_ino
        made.redirected = whiteout.REDIRECT.decode() in found.attributes
        if made.redirected:
            found.where.enter()
            redirect = whiteout.redirect_of(found.name, found.attributes)
            made.lower_path = _lower_path(parent, redirect)
    note_dir(made, found.st)
    table.add(made)
    return made


def _is_same_dir(node: Node, parent: Dir, name: bytes, upper: LayerDir | None) -> bool:
    return (
        isinstance(node, Dir)
        and not node.gone
        and node.parent is parent
        and node.name == name
        and (node.upper is None) == (upper is None)
    )


def _lower_path(parent: Dir, redirect: tuple[bytes, ...] | None) -> bytes | None:
    if redirect is None:
        return None
    if redirect[0] == b"":
        return b"/".join(redirect)
    return lower_path(parent) + b"/" + redirect[0]


def lower_path(node: Dir) -> bytes:
    """The absolute path at which the lowers have a merged directory; b"" is the root."""
    names: list[bytes] = []
    while node.parent is not None:
        if node.lower_path is not None:
            return node.lower_path + b"".join(b"/" + name for name in reversed(names))
        names.append(node.name)
        node = node.parent
    return b"".join(b"/" + name for name in reversed(names))


def note_dir(node: Dir, st: os.stat_result) -> None:
    """Remember what a directory hands down to the files made in it."""
    node.gid = st.st_gid if st.st_mode & stat.S_ISGID else -2

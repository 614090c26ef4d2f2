"""rename(2) in the merged view, always one renameat2(2) in the upper.

A directory that has something in the lowers moves by a redirect (overlayfs.rst, "redirect_dir"):
its new name in the upper says where the lowers have it. A directory that has nothing there is made
opaque, so that it does not uncover what the lowers have at the new name.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from . import lookup, whiteout
from .copy_up import copy_up, note_nodes, upper_dir, work_of
from .inodes import DEVICE, LINKED, Dir, Node
from .names import Maker, changed, check_empty, dir_lost, lose_name, mknod, name_lost
from .syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2

if TYPE_CHECKING:
    from .state import Overlay


class Place:
    """A name in a merged directory, and what is there."""

    __slots__ = ("below", "name", "node", "parent", "st")

    def __init__(self, overlay: Overlay, parent: Dir, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.node: Node | None = None
        self.st: os.stat_result | None = None
        try:
            self.node, self.st = lookup.find(overlay, parent, name)
        except FileNotFoundError:
            if parent.gone:
                raise
        # Whether the lowers have something here that would show if the upper had nothing.
        self.below = lookup.in_lowers(overlay, parent, name) is not None


def rename(
    overlay: Overlay, parent: Dir, name: bytes, new_parent: Dir, new_name: bytes, flags: int
) -> None:
    """renameat2(2) with all its flags."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise OSError(errno.EINVAL, "flags that are not known")
    work_of(overlay)
    # The target first: a name of a hard link is where it was found last.
    target = Place(overlay, new_parent, new_name)
    source = Place(overlay, parent, name)
    if source.node is None:
        raise FileNotFoundError(errno.ENOENT, "no such name", name)
    if target.node is None:
        if flags & RENAME_EXCHANGE:
            raise FileNotFoundError(errno.ENOENT, "nothing to exchange with", new_name)
    elif flags & RENAME_NOREPLACE:
        raise FileExistsError(errno.EEXIST, "name exists", new_name)
    elif target.node is source.node:
        return
    if flags & RENAME_EXCHANGE:
        _exchange(overlay, source, target)
    else:
        _replace(overlay, source, target)
    if flags & RENAME_WHITEOUT:
        mknod(overlay, parent, name, 0, Maker(stat.S_IFCHR, overlay.uid, overlay.gid))


def _replace(overlay: Overlay, source: Place, target: Place) -> None:
    """The source takes the name of the target, which goes if there is one."""
    assert source.node is not None
    if isinstance(source.node, Dir) and target.node is not None:
        if not isinstance(target.node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        check_empty(overlay, target.node)
    elif isinstance(target.node, Dir):
        raise IsADirectoryError(errno.EISDIR, "a directory")
    new_dir = upper_dir(overlay, target.parent)
    _make_movable(overlay, source, target)
    in_upper = new_dir.stat(target.name) is not None
    if isinstance(target.node, Dir):
        _clear(overlay, target)
    elif target.node is not None:
        assert target.st is not None
        lose_name(overlay, target.node, target.st, in_upper=in_upper)
    _move(overlay, source, target)
    changed(source.parent)
    changed(target.parent)
    if isinstance(target.node, Dir):
        assert target.st is not None
        dir_lost(target.node, target.st)
    elif target.node is not None:
        assert target.st is not None
        name_lost(overlay, target.node, target.st, target.parent, target.name, in_upper=in_upper)
    _settle(overlay, source.node, target.parent, target.name)


def _move(overlay: Overlay, source: Place, target: Place) -> None:
    """The system call. A directory can't replace the whiteout at its new name, only exchange."""
    new_dir = upper_dir(overlay, target.parent)
    old_fd, new_fd = upper_dir(overlay, source.parent).open(), new_dir.open()
    st = new_dir.stat(target.name)
    if st is not None and whiteout.is_whiteout(st) and isinstance(source.node, Dir):
        renameat2(old_fd, source.name, new_fd, target.name, RENAME_EXCHANGE)
        if not source.below:
            os.unlink(source.name, dir_fd=old_fd)
        return
    if not source.below:
        os.rename(source.name, target.name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        return
    renameat2(old_fd, source.name, new_fd, target.name, RENAME_WHITEOUT)


def _exchange(overlay: Overlay, source: Place, target: Place) -> None:
    assert source.node is not None
    assert target.node is not None
    _make_movable(overlay, source, target)
    _make_movable(overlay, target, source)
    renameat2(
        upper_dir(overlay, source.parent).open(),
        source.name,
        upper_dir(overlay, target.parent).open(),
        target.name,
        RENAME_EXCHANGE,
    )
    changed(source.parent)
    changed(target.parent)
    _settle(overlay, source.node, target.parent, target.name)
    _settle(overlay, target.node, source.parent, source.name)


def _make_movable(overlay: Overlay, source: Place, target: Place) -> None:
    """See to it that what moves is in the upper, under its name and with the marks it needs."""
    node = source.node
    assert node is not None
    if isinstance(node, Dir):
        _mark_moving(overlay, node, target)
        return
    copy_up(overlay, node)
    where = upper_dir(overlay, source.parent)
    if node.flags & LINKED and overlay.index is not None and where.stat(source.name) is None:
        overlay.index.give_name(node.id, where, source.name)
    if node.flags & DEVICE:
        note_nodes(upper_dir(overlay, target.parent))
    if whiteout.is_dot_name(target.name) and not whiteout.is_dot_name(source.name):
        where.enter()
        if overlay.xattrs and node.kind == stat.S_IFREG:
            os.setxattr(source.name, whiteout.PLAIN, b"y", follow_symlinks=False)


def _mark_moving(overlay: Overlay, node: Dir, target: Place) -> None:
    if node.lowers:
        if not (overlay.config.redirect_dir and overlay.xattrs):
            raise OSError(errno.EXDEV, "a directory of the lower, and no redirects")
        path = lookup.lower_path(node)
        fd = upper_dir(overlay, node).open()
        if node.lower_path != path or not node.redirected:
            os.setxattr(fd, whiteout.REDIRECT, path)
        node.lower_path = path
        node.redirected = True
    elif target.parent.lowers and overlay.xattrs:
        # Not only if the lowers have the name: those of a remount may be others.
        os.setxattr(upper_dir(overlay, node).open(), whiteout.OPAQUE, b"y")


def _clear(overlay: Overlay, target: Place) -> None:
    """Make way for a directory: put an empty one where the upper has one full of whiteouts."""
    node = target.node
    assert isinstance(node, Dir)
    if node.upper is None:
        return
    node.upper.enter()
    if not os.listdir(b"."):
        return
    work = work_of(overlay)
    made = work.name()
    os.mkdir(made, 0o700, dir_fd=work.fd)
    if overlay.xattrs:
        os.fchdir(work.fd)
        os.setxattr(made, whiteout.OPAQUE, b"y", follow_symlinks=False)
    where = upper_dir(overlay, target.parent)
    renameat2(work.fd, made, where.open(), target.name, RENAME_EXCHANGE)
    work.discard(made)


def _settle(overlay: Overlay, node: Node, parent: Dir, name: bytes) -> None:
    """Note the new place of what was moved."""
    overlay.table.move(node, parent, name)
    where = upper_dir(overlay, parent)
    node.where, node.real = where, name
    if isinstance(node, Dir):
        assert node.upper is not None
        node.upper.parent = where
        node.upper.name = name

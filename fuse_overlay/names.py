"""Making and removing names.

What needs only one system call in the upper is done there in place. What needs more (another
owner, a whiteout in the way, a mark) is made whole in the work directory and renamed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import listing, lookup, whiteout
from .copy_up import copy_up, note_nodes, upper_dir, work_of
from .files import hold
from .inodes import DEVICE, HELD, LINKED, NAMELESS, NO_CAPABILITY, WRITABLE, Dir, Node
from .layers import LayerDir
from .ownership import can_record

if TYPE_CHECKING:
    from .state import Overlay

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ACL = b"system.posix_acl_default"


class Maker:
    """Whoever makes a name: whose the new file will be, and its mode."""

    __slots__ = ("gid", "mode", "uid")

    def __init__(self, mode: int, uid: int, gid: int) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid


def create(overlay: Overlay, parent: Dir, name: bytes, by: Maker) -> tuple[Node, os.stat_result]:
    """Make a regular file; its descriptor stays open for what is written next."""
    where = _prepare(overlay, parent, name)
    fd = -1
    if _is_simple(overlay, parent, name, by):
        try:
            fd = os.open(name, _CREATE, stat.S_IMODE(by.mode), dir_fd=where.open())
        except FileExistsError:
            _check_free(where, name)
    if fd < 0:
        fd = _create_whole(overlay, parent, where, name, by)
    st = os.fstat(fd)
    node = _enter(overlay, parent, name, where, st)
    overlay.table.give_fd(node, fd)
    node.flags |= WRITABLE | NO_CAPABILITY
    return node, st


def _create_whole(overlay: Overlay, parent: Dir, where: LayerDir, name: bytes, by: Maker) -> int:
    def make(made: bytes, dir_fd: int) -> None:
        os.close(os.open(made, _CREATE, stat.S_IMODE(by.mode), dir_fd=dir_fd))

    _make_whole(overlay, parent, where, name, by, make)
    return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where.open())


def tmpfile(overlay: Overlay, parent: Dir, by: Maker) -> tuple[Node, os.stat_result]:
    """Make a regular file without a name (O_TMPFILE); `link` can give it one."""
    where = _prepare(overlay, parent, b"")
    fd = os.open(
        b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, stat.S_IMODE(by.mode), dir_fd=where.open()
    )
    if not _is_simple(overlay, parent, b"", by):
        _own(overlay, parent, fd, None, by)
    st = os.fstat(fd)
    node = _enter(overlay, parent, b"", where, st)
    node.flags |= HELD | WRITABLE | NAMELESS
    node.gone = True
    overlay.table.give_fd(node, fd)
    return node, st


def mkdir(overlay: Overlay, parent: Dir, name: bytes, by: Maker) -> tuple[Node, os.stat_result]:
    """Make a directory, which hides whatever the lowers have there."""
    where = _prepare(overlay, parent, name)
    by.mode = stat.S_IFDIR | stat.S_IMODE(by.mode)

    def make(made: bytes, dir_fd: int) -> None:
        os.mkdir(made, stat.S_IMODE(by.mode), dir_fd=dir_fd)

    _make(overlay, parent, where, name, by, make)
    st = _stat_made(where, name)
    upper = where.child(name, st)
    node_id = overlay.table.id_of(st)
    if overlay.table.known(node_id) is not None:
        node_id = overlay.table.fresh_id()
    node = Dir(node_id, parent, name, upper, ())
    node.ino = st.st_ino
    lookup.note_dir(node, st)
    overlay.table.add(node)
    if overlay.quota is not None:
        overlay.quota.add(st.st_blocks, 1)
    return node, st


def symlink(
    overlay: Overlay, parent: Dir, name: bytes, target: bytes, by: Maker
) -> tuple[Node, os.stat_result]:
    """Make a symbolic link."""
    where = _prepare(overlay, parent, name)
    by.mode = stat.S_IFLNK | 0o777

    def make(made: bytes, dir_fd: int) -> None:
        os.symlink(target, made, dir_fd=dir_fd)

    _make(overlay, parent, where, name, by, make)
    st = _stat_made(where, name)
    return _enter(overlay, parent, name, where, st), st


def mknod(
    overlay: Overlay, parent: Dir, name: bytes, rdev: int, by: Maker
) -> tuple[Node, os.stat_result]:
    """Make a fifo, socket, device or regular file."""
    if stat.S_ISCHR(by.mode) and rdev == 0:
        return _mknod_whiteout(overlay, parent, name, by)
    where = _prepare(overlay, parent, name)
    if not stat.S_IFMT(by.mode):
        by.mode |= stat.S_IFREG

    def make(made: bytes, dir_fd: int) -> None:
        os.mknod(made, by.mode, rdev, dir_fd=dir_fd)

    _make(overlay, parent, where, name, by, make)
    st = _stat_made(where, name)
    return _enter(overlay, parent, name, where, st), st


def _mknod_whiteout(
    overlay: Overlay, parent: Dir, name: bytes, by: Maker
) -> tuple[Node, os.stat_result]:
    """A device 0:0 of a user's own must not hide anything here: a marked file stands for it."""
    if not overlay.xattrs:
        raise PermissionError(errno.EPERM, "that would be a whiteout")
    where = _prepare(overlay, parent, name)
    note_nodes(where)
    by.mode = stat.S_IFREG | stat.S_IMODE(by.mode)

    def make(made: bytes, dir_fd: int) -> None:
        os.mknod(made, by.mode, dir_fd=dir_fd)
        os.fchdir(dir_fd)
        os.setxattr(made, whiteout.NODE, b"c", follow_symlinks=False)

    _make_whole(overlay, parent, where, name, by, make)
    st = _stat_made(where, name)
    node = _enter(overlay, parent, name, where, st)
    node.kind = stat.S_IFCHR
    node.flags |= DEVICE
    return node, st


def link(overlay: Overlay, node: Node, parent: Dir, name: bytes) -> os.stat_result:
    """Give a file one more name."""
    where = _prepare(overlay, parent, name, inode=False)
    if node.gone and not node.flags & HELD:
        raise FileNotFoundError(errno.ENOENT, "no name is left")
    copy_up(overlay, node)
    if node.flags & DEVICE:
        note_nodes(where)
    if whiteout.is_dot_name(name) and node.kind == stat.S_IFREG:
        _mark_plain(node)

    def make(made: bytes, dir_fd: int) -> None:
        if node.gone:  # made by O_TMPFILE: the kernel allows it for no other
            path = b"/proc/self/fd/%d" % node.fd
            os.link(path, made, dst_dir_fd=dir_fd, follow_symlinks=True)
            return
        os.link(
            node.real, made, src_dir_fd=node.where.open(), dst_dir_fd=dir_fd, follow_symlinks=False
        )

    try:
        make(name, where.open())
    except FileExistsError:
        _check_free(where, name)
        work = work_of(overlay)
        made = work.name()
        make(made, work.fd)
        work.show(made, where, name)
    overlay.table.move(node, parent, name)
    node.where, node.real = where, name
    if node.gone:
        node.gone = False
        node.flags &= ~HELD
        overlay.table.leaving.discard(node)
    return node.stat()


def _mark_plain(node: Node) -> None:
    """Say of a file that its name is no mark."""
    if node.gone:
        os.setxattr(node.fd, whiteout.PLAIN, b"y")
    else:
        node.where.enter()
        os.setxattr(node.real, whiteout.PLAIN, b"y", follow_symlinks=False)


def unlink(overlay: Overlay, parent: Dir, name: bytes) -> None:
    """Remove a name that is no directory."""
    work = work_of(overlay)
    node, st = lookup.find(overlay, parent, name)
    if isinstance(node, Dir):
        raise IsADirectoryError(errno.EISDIR, "a directory")
    where = upper_dir(overlay, parent)
    below = lookup.in_lowers(overlay, parent, name) is not None
    in_upper = node.in_upper and (
        (node.where is where and node.real == name) or where.stat(name) is not None
    )
    lose_name(overlay, node, st, in_upper=in_upper)
    if below:
        work.hide(where, name)
    else:
        os.unlink(name, dir_fd=where.open())
    changed(parent)
    name_lost(overlay, node, st, parent, name, in_upper=in_upper)


def rmdir(overlay: Overlay, parent: Dir, name: bytes) -> None:
    """Remove an empty directory."""
    work = work_of(overlay)
    node, st = lookup.find(overlay, parent, name)
    if not isinstance(node, Dir):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
    check_empty(overlay, node)
    where = upper_dir(overlay, parent)
    below = lookup.in_lowers(overlay, parent, name) is not None
    if node.upper is None:
        work.hide(where, name)
    elif below:
        work.hide_dir(where, name)
    else:
        try:
            os.rmdir(name, dir_fd=where.open())
        except OSError as err:
            if err.errno != errno.ENOTEMPTY:
                raise
            work.remove_dir(where, name)
    if overlay.quota is not None and node.upper is not None:
        overlay.quota.add(-st.st_blocks, -1)
    changed(parent)
    dir_lost(node, st)


def check_empty(overlay: Overlay, node: Dir) -> None:
    """ENOTEMPTY unless the merged directory has no names."""
    if listing.names(overlay, node):
        raise OSError(errno.ENOTEMPTY, "directory not empty")


def lose_name(overlay: Overlay, node: Node, st: os.stat_result, *, in_upper: bool) -> None:
    """Prepare for a name of *node* to go: what is known by that name only is held.

    Not if nobody can have it open: then there is nothing left to hold, and the room it takes is
    free at once.
    """
    if node.in_upper and in_upper:
        if overlay.table.in_use(node) or overlay.nlink(node, st) > 1:
            hold(overlay, node)
    elif node.where.layer.live:
        return
    elif overlay.index is not None and (node.flags & LINKED or st.st_nlink > 1):
        overlay.index.hide_name(node)


def name_lost(
    overlay: Overlay, node: Node, st: os.stat_result, parent: Dir, name: bytes, *, in_upper: bool
) -> None:
    """A name of *node* has gone."""
    left = 0
    if st.st_nlink > 1 or node.flags & LINKED:
        gone = node.in_upper and in_upper and node.fd < 0
        left = 0 if gone else overlay.nlink(node, node.stat())
    if left:
        if node.parent is parent and node.name == name:
            node.flags |= NAMELESS
        return
    if overlay.index is not None:
        if node.flags & LINKED:
            overlay.index.drop(node.id)
        overlay.index.drop_id(node.ino)
    node.gone = True
    if overlay.table.in_use(node):
        if node.in_upper:
            overlay.table.leaving.add(node)
        return
    node.stale = st
    if node.fd >= 0:
        overlay.table.release_fd(node)
    elif node.in_upper and overlay.quota is not None:
        overlay.quota.add(-st.st_blocks, -1)


def dir_lost(node: Dir, st: os.stat_result) -> None:
    """A directory has been removed."""
    node.gone = True
    node.stale = st
    if node.upper is not None:
        node.upper.close()


def changed(parent: Dir) -> None:
    """The names in a directory have changed."""
    parent.version += 1


def _prepare(overlay: Overlay, parent: Dir, name: bytes, *, inode: bool = True) -> LayerDir:
    """The upper directory for a new name."""
    if parent.gone:
        raise FileNotFoundError(errno.ENOENT, "removed directory")
    if overlay.quota is not None and inode:
        overlay.quota.check_inode()
    where = upper_dir(overlay, parent)
    changed(parent)
    return where


def _is_simple(overlay: Overlay, parent: Dir, name: bytes, by: Maker) -> bool:
    """Whether a file made in place gets all it should have at once."""
    own = overlay.ownership
    return (
        own.plain
        and by.uid == overlay.uid
        and (parent.gid >= 0 or by.gid == overlay.gid)
        and not name.startswith(whiteout.DOT)
    )


def _check_free(where: LayerDir, name: bytes) -> None:
    """EEXIST unless the upper has nothing but a whiteout at a name."""
    st = where.stat(name)
    if st is not None and not whiteout.is_whiteout(st):
        marks = where.marks()
        if name not in marks.names:
            raise FileExistsError(errno.EEXIST, "name exists", name)


def _make(
    overlay: Overlay,
    parent: Dir,
    where: LayerDir,
    name: bytes,
    by: Maker,
    make: Callable[[bytes, int], None],
) -> None:
    if _is_simple(overlay, parent, name, by) and name not in where.marks().hidden:
        try:
            make(name, where.open())
            return
        except FileExistsError:
            _check_free(where, name)
    _make_whole(overlay, parent, where, name, by, make)


def _make_whole(
    overlay: Overlay,
    parent: Dir,
    where: LayerDir,
    name: bytes,
    by: Maker,
    make: Callable[[bytes, int], None],
) -> None:
    """Make something in the work directory, owner and marks included, and show it."""
    work = work_of(overlay)
    _check_free(where, name)
    made = work.name()
    room, room_fd = _acl_room(overlay, where)
    try:
        make(made, room_fd)
        _finish(overlay, parent, where, name, made, room_fd, by)
        if room:
            os.rename(made, made, src_dir_fd=room_fd, dst_dir_fd=work.fd)
        work.show(made, where, name, is_dir=stat.S_ISDIR(by.mode))
    except BaseException:
        work.discard(made)
        raise
    finally:
        if room:
            os.close(room_fd)
            work.discard(room)


def _acl_room(overlay: Overlay, where: LayerDir) -> tuple[bytes, int]:
    """A place to make a file: one with the parent's default ACL, if it has one."""
    work = work_of(overlay)
    acl = whiteout.read_xattr(where.open(), _ACL) if overlay.config.acl else None
    if acl is None:
        return b"", work.fd
    room = work.name()
    os.mkdir(room, 0o700, dir_fd=work.fd)
    fd = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=work.fd)
    os.setxattr(fd, _ACL, acl)
    return room, fd


def _finish(
    overlay: Overlay, parent: Dir, where: LayerDir, name: bytes, made: bytes, dir_fd: int, by: Maker
) -> None:
    """Owner, inherited group, set-id bits and marks of something new."""
    os.fchdir(dir_fd)
    _own(overlay, parent, made, dir_fd, by)
    if stat.S_ISDIR(by.mode) and overlay.xattrs:
        os.setxattr(made, whiteout.OPAQUE, b"y", follow_symlinks=False)
    if whiteout.is_dot_name(name) and stat.S_ISREG(by.mode):
        os.setxattr(made, whiteout.PLAIN, b"y", follow_symlinks=False)


def _own(overlay: Overlay, parent: Dir, made: bytes | int, dir_fd: int | None, by: Maker) -> None:
    """Owner, inherited group and set-id bits of a name in the working directory, or of an fd."""
    own = overlay.ownership
    gid = by.gid
    if parent.gid >= 0:
        gid = parent.gid
        by.mode |= stat.S_ISGID if stat.S_ISDIR(by.mode) else 0
    if own.override and can_record(by.mode):
        own.keep(made, by.mode, by.uid, gid, 0)
    uid, gid = own.uid_on_disk(by.uid), own.gid_on_disk(gid)
    if isinstance(made, int):
        os.fchown(made, uid, gid)
    else:
        os.chown(made, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
    if by.mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(by.mode):
        # chown(2) has cleared them.
        mode = stat.S_IMODE(os.stat(made, dir_fd=dir_fd).st_mode)
        os.chmod(made, mode | by.mode & (stat.S_ISUID | stat.S_ISGID), dir_fd=dir_fd)


def _enter(overlay: Overlay, parent: Dir, name: bytes, where: LayerDir, st: os.stat_result) -> Node:
    """The node of a file that was just made."""
    table = overlay.table
    node_id = table.id_of(st)
    if table.known(node_id) is not None:
        node_id = table.fresh_id()
    node = Node(node_id, parent, name, where, name, stat.S_IFMT(st.st_mode))
    node.ino = st.st_ino
    table.add(node)
    if overlay.index is not None:
        overlay.index.drop_id(st.st_ino)
    if overlay.quota is not None:
        overlay.quota.add(st.st_blocks, 1)
    return node


def _stat_made(where: LayerDir, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=where.open(), follow_symlinks=False)

"""Copy-up: a lower file gets a whole copy in the upper, shown by one rename.

Everything is made under a temporary name in the work directory (data with its holes, owner, mode,
xattrs, times), so a server that is killed leaves either nothing or the finished copy.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from . import whiteout
from .inodes import DEVICE, HELD, LINKED, NAMELESS, NO_CAPABILITY, WRITABLE, Dir, Node
from .layers import LayerDir

if TYPE_CHECKING:
    from .state import Overlay
    from .work import Work

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 30


def read_only() -> OSError:
    """What changing a file system without an upper says."""
    return OSError(errno.EROFS, "no upper layer")


def work_of(overlay: Overlay) -> Work:
    """The work directory; without one nothing can be changed."""
    if overlay.work is None:
        raise read_only()
    return overlay.work


def upper_dir(overlay: Overlay, node: Dir) -> LayerDir:
    """The directory's upper, made (with all those above it) if there is none."""
    if node.upper is not None:
        return node.upper
    work_of(overlay)
    chain: list[Dir] = []
    step: Dir | None = node
    while step is not None and step.upper is None:
        chain.append(step)
        step = step.parent
    while chain:
        _copy_dir(overlay, chain.pop())
    assert node.upper is not None
    return node.upper


def _copy_dir(overlay: Overlay, node: Dir) -> None:
    """Make one directory in the upper, like the topmost lower's."""
    if node.gone or node.parent is None or node.parent.upper is None:
        raise FileNotFoundError(errno.ENOENT, "removed directory")
    work = work_of(overlay)
    source = node.lowers[0]
    lower_fd = source.open()
    st = os.fstat(lower_fd)
    made = work.name()
    if overlay.quota is not None:
        overlay.quota.check_inode()
    os.mkdir(made, 0o700, dir_fd=work.fd)
    try:
        fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=work.fd)
        try:
            _copy_xattrs(overlay, lower_fd, fd)
            _keep_id(overlay, node.id, fd, st)
            _own(overlay, node, fd, st)
            os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
            made_st = os.fstat(fd)
        finally:
            os.close(fd)
        with keep_times(node.parent.upper.open()):
            work.show(made, node.parent.upper, node.name, is_dir=True)
    except BaseException:
        work.discard(made)
        raise
    if overlay.quota is not None:
        overlay.quota.add(made_st.st_blocks, 1)
    node.upper = node.parent.upper.child(node.name, made_st)
    node.where, node.real = node.parent.upper, node.name
    node.in_upper = True
    node.ino = made_st.st_ino
    node.parent.version += 1


class keep_times:
    """Copy-up is not a change that anybody asked for: the directory's times stay."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        self._st = os.fstat(self._fd)

    def __exit__(self, *_: object) -> None:
        os.utime(self._fd, ns=(self._st.st_atime_ns, self._st.st_mtime_ns))


def copy_up(overlay: Overlay, node: Node, size: int | None = None) -> None:
    """Give a file, link or device of a lower a copy in the upper; no more than *size* bytes.

    Its open descriptor (and so every open handle) afterwards is the copy's.
    """
    if isinstance(node, Dir):
        upper_dir(overlay, node)
        return
    if node.in_upper:
        return
    assert node.parent is not None
    if (node.gone or node.flags & NAMELESS) and node.kind != stat.S_IFREG:
        raise OSError(errno.ESTALE, "removed file")
    work = work_of(overlay)
    where = None if node.gone or node.flags & NAMELESS else upper_dir(overlay, node.parent)
    made = work.name()
    try:
        if node.kind == stat.S_IFREG:
            _copy_file(overlay, node, work, made, where, size)
        else:
            _copy_special(overlay, node, work, made, where)
    except BaseException:
        work.discard(made)
        raise


def _place(
    overlay: Overlay,
    node: Node,
    work: Work,
    made: bytes,
    where: LayerDir | None,
    names: int,
    fd: int,
) -> None:
    """Show a finished copy, in the index too if the lower file has several names."""
    if where is None:
        _place_nameless(overlay, node, work, made, names, fd)
        return
    with keep_times(where.open()):
        if names > 1 and overlay.index is not None and fd >= 0 and not node.where.layer.live:
            overlay.index.add(node.id, work.fd, made, names, fd)
            overlay.index.give_name(node.id, where, node.name)
            node.flags |= LINKED
        else:
            work.show(made, where, node.name)
    node.where, node.real = where, node.name
    node.in_upper = True
    assert node.parent is not None
    node.parent.version += 1


def _place_nameless(
    overlay: Overlay, node: Node, work: Work, made: bytes, names: int, fd: int
) -> None:
    """Let a copy be without the name that its original has lost while it was open."""
    assert overlay.upper is not None
    live = node.where.layer.live
    if overlay.index is not None and not live and not node.gone and names > 1 and fd >= 0:
        overlay.index.add(node.id, work.fd, made, names, fd)
        node.where, node.real = overlay.index.dir, overlay.index.name(node.id)
        node.flags |= LINKED
    else:
        os.unlink(made, dir_fd=work.fd)
        node.where = overlay.upper.root
        node.flags |= HELD
    node.in_upper = True


def _copy_file(
    overlay: Overlay, node: Node, work: Work, made: bytes, where: LayerDir | None, size: int | None
) -> None:
    source = node.fd if node.fd >= 0 else open_lower(node)
    fd = -1
    try:
        st = os.fstat(source)
        if overlay.quota is not None:
            overlay.quota.check_inode()
            overlay.quota.check(min(st.st_blocks * 512, st.st_size if size is None else size))
        fd = os.open(made, _CREATE, 0o600, dir_fd=work.fd)
        copy_data(source, fd, st.st_size if size is None else min(size, st.st_size))
        _keep_id(overlay, node.id, fd, st)
        _own(overlay, node, fd, st)
        _copy_xattrs(overlay, source, fd)
        os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
        if not overlay.config.volatile:
            os.fsync(fd)
        _place(overlay, node, work, made, where, st.st_nlink, fd)
        copied = os.fstat(fd)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    finally:
        if node.fd < 0:
            os.close(source)
    node.ino = copied.st_ino
    overlay.table.by_ino[node.ino] = node
    node.flags &= ~NO_CAPABILITY
    if overlay.quota is not None:
        overlay.quota.add(copied.st_blocks, 1)
    _adopt(overlay, node, fd)


def _adopt(overlay: Overlay, node: Node, fd: int) -> None:
    """Let the copy's descriptor take the place of the lower's."""
    if node.fd >= 0:
        os.close(node.fd)
    overlay.table.give_fd(node, fd)
    node.flags |= WRITABLE


def open_lower(node: Node) -> int:
    """Open a lower's regular file for reading, by its name only if that is what it is."""
    where = node.where
    layer = where.layer
    if layer.live or layer.world_only:
        st = os.stat(node.real, dir_fd=where.open(), follow_symlinks=False)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ESTALE, "no longer a regular file")
        if layer.world_only and not st.st_mode & stat.S_IROTH:
            raise PermissionError(errno.EACCES, "not readable by others")
    fd = _open_without_atime(node.real, where)
    if layer.live and not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ESTALE, "no longer a regular file")
    return fd


def _open_without_atime(name: bytes, where: LayerDir) -> int:
    """Open for reading; O_NOATIME is for owners only, so it is not tried for ever."""
    layer = where.layer
    if layer.no_atime:
        try:
            return os.open(name, _READ | os.O_NOATIME, dir_fd=where.open())
        except PermissionError:
            fd = os.open(name, _READ, dir_fd=where.open())
            layer.no_atime = False
            return fd
    return os.open(name, _READ, dir_fd=where.open())


def copy_data(source: int, target: int, size: int) -> None:
    """Copy *size* bytes, leaving holes where the source has holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as err:
            if err.errno != errno.ENXIO:
                raise
            break
        if start >= size:
            break
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        _copy_range(source, target, start, end)
        offset = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        count = min(end - start, _CHUNK)
        try:
            done = os.copy_file_range(source, target, count, start, start)
        except OSError as err:
            if err.errno not in (
                errno.EXDEV,
                errno.EINVAL,
                errno.ENOSYS,
                errno.EOPNOTSUPP,
                errno.EPERM,
            ):
                raise
            os.lseek(target, start, os.SEEK_SET)
            done = os.sendfile(target, source, start, count)
        if done == 0:  # the lower was cut short meanwhile
            return
        start += done


def _copy_special(
    overlay: Overlay, node: Node, work: Work, made: bytes, where: LayerDir | None
) -> None:
    """Copy a symlink, fifo, socket or device."""
    st = node.stat()
    if overlay.quota is not None:
        overlay.quota.check_inode()
    if node.kind == stat.S_IFLNK:
        target = os.readlink(node.real, dir_fd=node.where.open())
        os.symlink(target, made, dir_fd=work.fd)
    elif node.flags & DEVICE:
        os.mknod(made, stat.S_IFREG | 0o600, dir_fd=work.fd)
        os.fchdir(work.fd)
        os.setxattr(made, whiteout.NODE, b"c", follow_symlinks=False)
        if where is not None:
            note_nodes(where)
    else:
        os.mknod(made, node.kind | 0o600, st.st_rdev, dir_fd=work.fd)
    _, uid, gid, _ = overlay.ownership.shown(node, st)
    os.chown(
        made,
        overlay.ownership.uid_on_disk(uid),
        overlay.ownership.gid_on_disk(gid),
        dir_fd=work.fd,
        follow_symlinks=False,
    )
    if node.kind != stat.S_IFLNK:
        os.chmod(made, stat.S_IMODE(st.st_mode), dir_fd=work.fd)
    os.utime(made, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=work.fd, follow_symlinks=False)
    copied = os.stat(made, dir_fd=work.fd, follow_symlinks=False)
    _place(overlay, node, work, made, where, 1, -1)
    node.ino = copied.st_ino
    overlay.table.by_ino[node.ino] = node
    if overlay.index is not None and not node.flags & DEVICE:
        overlay.index.keep_id(copied.st_ino, node.id)
    if overlay.quota is not None:
        overlay.quota.add(copied.st_blocks, 1)


def note_nodes(where: LayerDir) -> None:
    """Mark a directory of the upper as one that has devices 0:0 of users."""
    if not where.nodes:
        os.setxattr(where.open(), whiteout.NODES, b"y")
        where.nodes = True


def _own(overlay: Overlay, node: Node, fd: int, st: os.stat_result) -> None:
    """Give a copy the owner and mode of its original."""
    own = overlay.ownership
    mode, uid, gid, _ = own.recorded(node, st)
    os.chown(fd, own.uid_on_disk(uid), own.gid_on_disk(gid))
    os.chmod(fd, stat.S_IMODE(mode))
    if own.override:
        own.keep(fd, mode, uid, gid, 0)


def _keep_id(overlay: Overlay, node_id: int, fd: int, st: os.stat_result) -> None:
    """Remember the node id, if the upper can; without, the inode number changes at a remount."""
    if overlay.xattrs:
        with suppress(OSError):
            os.setxattr(fd, whiteout.INO, b"%d" % node_id)


def _copy_xattrs(overlay: Overlay, source: int, target: int) -> None:
    """Copy the xattrs that are not marks; labels that we may not set stay behind."""
    for name in whiteout.list_xattrs(source):
        disk_name = os.fsencode(name)
        if whiteout.from_disk(disk_name) is None:
            continue
        value = whiteout.read_xattr(source, disk_name)
        if value is None:
            continue
        try:
            os.setxattr(target, name, value)
        except OSError as err:
            if err.errno == errno.ENOSPC or not name.startswith(("security.", "trusted.")):
                if err.errno in (errno.ENOTSUP, errno.EPERM) and not name.startswith("user."):
                    continue
                raise

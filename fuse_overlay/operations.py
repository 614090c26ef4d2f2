"""The adapter to pyfuse3: requests in, what the modules of operations answer out.

Every handler turns an OSError into its errno and anything else into EIO, logged: an exception that
is no FUSEError would end pyfuse3's loop.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from . import attributes, files, listing, lookup, names, rename
from .inodes import DEVICE, LINKED, SUID, Dir, Node, UnknownNode
from .names import Maker
from .state import Overlay

log = logging.getLogger("fuse_overlay")

_T = TypeVar("_T")
_SET_ID = stat.S_ISUID | stat.S_ISGID
_WRITING = os.O_WRONLY | os.O_RDWR
_CHANGING = _WRITING | os.O_TRUNC


def _answered(handler: Callable[..., _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
    """Let a handler be a plain function that raises whatever it wants."""

    @functools.wraps(handler)
    async def guarded(*args: Any) -> _T:
        try:
            return handler(*args)
        except OSError as err:
            raise FUSEError(err.errno or errno.EIO) from None
        except UnknownNode:
            raise FUSEError(errno.ESTALE) from None
        except FUSEError:
            raise
        except Exception:
            log.exception("%s failed", handler.__name__)
            raise FUSEError(errno.EIO) from None

    return guarded


class Operations(pyfuse3.Operations):
    """pyfuse3's handlers. One request is answered before the next is read."""

    supports_dot_lookup = False

    def __init__(self, overlay: Overlay) -> None:
        super().__init__()
        self._overlay = overlay
        self._nodes = overlay.table.nodes
        self._by_fd = overlay.table.by_fd
        self._plain = overlay.ownership.plain
        self._shown = overlay.ownership.shown
        config = overlay.config
        self.enable_acl = config.acl
        self.enable_writeback_cache = (
            config.upper is not None and overlay.quota is None
            if config.writeback is None
            else config.writeback
        )
        self._timeout = config.timeout
        self._live_timeout = config.live_timeout if config.live_lower else config.timeout
        self._listings: dict[int, listing.Listing] = {}
        self._next_listing = 0
        self._entry = EntryAttributes()
        # Node id 0: the kernel remembers that there is no such name.
        self._nothing = EntryAttributes()
        self._nothing.st_ino = 0
        self._nothing.entry_timeout = self._live_timeout

    # Attributes

    def _dir(self, inode: int) -> Dir:
        node = self._nodes[inode]
        if not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return node

    def _fill(self, entry: EntryAttributes, node: Node, st: os.stat_result) -> EntryAttributes:
        """The answer that says what a node is. The node keeps the flags that follow from it."""
        mode = st.st_mode
        if self._plain:
            entry.st_uid = st.st_uid
            entry.st_gid = st.st_gid
            entry.st_rdev = st.st_rdev
        else:
            mode, entry.st_uid, entry.st_gid, entry.st_rdev = self._shown(node, st)
        if mode & _SET_ID:
            node.flags |= SUID
        nlink = st.st_nlink
        if nlink > 1 or node.flags & (DEVICE | LINKED) or node.gone or node.kind == stat.S_IFDIR:
            if node.flags & DEVICE:
                mode = stat.S_IFCHR | stat.S_IMODE(mode)
            nlink = 0 if node.gone else self._overlay.nlink(node, st)
        entry.st_nlink = nlink
        entry.st_ino = node.id
        entry.st_mode = mode
        entry.st_size = st.st_size
        entry.st_blocks = st.st_blocks
        entry.st_blksize = st.st_blksize
        entry.st_atime_ns = st.st_atime_ns
        entry.st_mtime_ns = st.st_mtime_ns
        entry.st_ctime_ns = st.st_ctime_ns
        entry.entry_timeout = entry.attr_timeout = (
            self._timeout if node.in_upper else self._live_timeout
        )
        return entry

    def _enter(self, node: Node, st: os.stat_result) -> EntryAttributes:
        """An answer that gives the kernel one more reference to a node."""
        node.lookups += 1
        return self._fill(self._entry, node, st)

    @_answered
    def lookup(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        found = lookup.find_if_any(self._overlay, self._dir(parent), name)
        return self._nothing if found is None else self._enter(*found)

    async def forget(self, inode_list: Iterable[tuple[int, int]]) -> None:
        try:
            self._overlay.table.forget(inode_list)
        except Exception:
            log.exception("forget failed")

    @_answered
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        node = self._nodes[inode]
        return self._fill(self._entry, node, node.stat())

    @_answered
    def setattr(
        self, inode: int, attr: EntryAttributes, fields: Any, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        wish = attributes.Wish()
        if fields.update_mode:
            wish.mode = attr.st_mode
        if fields.update_uid:
            wish.uid = attr.st_uid
        if fields.update_gid:
            wish.gid = attr.st_gid
        if fields.update_size:
            wish.size = attr.st_size
        if fields.update_atime:
            wish.atime_ns = attr.st_atime_ns
        if fields.update_mtime:
            wish.mtime_ns = attr.st_mtime_ns
        node = self._nodes[inode]
        st = attributes.setattr(self._overlay, node, wish)
        return self._fill(self._entry, node, st)

    @_answered
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        node = self._nodes[inode]
        if node.fd >= 0:
            return os.readlink(b"", dir_fd=node.fd)
        return os.readlink(node.real, dir_fd=node.where.open())

    # Names

    @_answered
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        by = Maker(mode, ctx.uid, ctx.gid)
        return self._enter(*names.mknod(self._overlay, self._dir(parent), name, rdev, by))

    @_answered
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        by = Maker(mode, ctx.uid, ctx.gid)
        return self._enter(*names.mkdir(self._overlay, self._dir(parent), name, by))

    @_answered
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        by = Maker(0o777, ctx.uid, ctx.gid)
        return self._enter(*names.symlink(self._overlay, self._dir(parent), name, target, by))

    @_answered
    def link(self, inode: int, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        node = self._nodes[inode]
        return self._enter(node, names.link(self._overlay, node, self._dir(parent), name))

    @_answered
    def unlink(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        names.unlink(self._overlay, self._dir(parent), name)

    @_answered
    def rmdir(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        names.rmdir(self._overlay, self._dir(parent), name)

    @_answered
    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        rename.rename(
            self._overlay, self._dir(parent), name, self._dir(new_parent), new_name, flags
        )

    # Content

    @_answered
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        by = Maker(mode | stat.S_IFREG, ctx.uid, ctx.gid)
        node, st = names.create(self._overlay, self._dir(parent), name, by)
        return FileInfo(fh=node.fd), self._enter(node, st)

    @_answered
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = self._nodes[inode]
        if node.fd >= 0 and not flags & _CHANGING and node.kind == stat.S_IFREG:
            node.opens += 1
            return FileInfo(fh=node.fd)
        fd = files.open_file(self._overlay, node, flags)
        # Writes that clear set-id bits must not wait in the kernel's cache.
        return FileInfo(fh=fd, direct_io=bool(node.flags & SUID and flags & _WRITING))

    @_answered
    def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @_answered
    def write(self, fh: int, off: int, buf: bytes) -> int:
        node = self._by_fd[fh]
        if node.flags & SUID:
            files.clear_set_id(node)
            pyfuse3.invalidate_inode(node.id, attr_only=True)
        return files.write(self._overlay, node, off, buf)

    async def flush(self, fh: int) -> None:
        # Nothing is gathered here; the kernel takes ENOSYS as "never ask again".
        raise FUSEError(errno.ENOSYS)

    @_answered
    def release(self, fh: int) -> None:
        files.release(self._overlay, fh)

    @_answered
    def fsync(self, fh: int, datasync: bool) -> None:
        files.sync(self._overlay, fh, datasync)

    # Directories

    @_answered
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        self._next_listing += 1
        self._listings[self._next_listing] = listing.Listing(self._dir(inode))
        return self._next_listing

    @_answered
    def readdir(self, fh: int, start_id: int, token: Any) -> None:
        opened = self._listings[fh]
        listed = opened.listed
        if start_id == 0 or listed is None:
            listed = opened.begin(self._overlay)
        if start_id < 2 and not self._dots(opened.node, start_id, token):
            return
        reply = pyfuse3.readdir_reply
        for number in range(max(start_id - 2, 0), len(listed.names)):
            found = opened.entry(self._overlay, listed, number)
            if found is None:
                continue
            node, st = found
            entry = node.attr
            if st is not None:
                entry = self._fill(EntryAttributes() if listed.keeps else self._entry, node, st)
                node.attr = entry if listed.keeps else None
            if not reply(token, listed.names[number][0], entry, number + 3):
                self._overlay.table.drop_unused(node)
                return
            node.lookups += 1

    def _dots(self, node: Dir, start_id: int, token: Any) -> bool:
        """The names "." and "..", which give the kernel no reference."""
        for number, (name, inode) in enumerate(((b".", node), (b"..", node.parent or node))):
            if number < start_id:
                continue
            entry = EntryAttributes()
            entry.st_ino = inode.id
            entry.st_mode = stat.S_IFDIR
            if not pyfuse3.readdir_reply(token, name, entry, number + 1):
                return False
        return True

    @_answered
    def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @_answered
    def fsyncdir(self, fh: int, datasync: bool) -> None:
        node = self._listings[fh].node
        if node.upper is not None and not node.gone and not self._overlay.config.volatile:
            os.fsync(node.upper.open())

    # The file system

    @_answered
    def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        overlay = self._overlay
        real = os.fstatvfs(overlay.root.top.open())
        data = pyfuse3.StatvfsData()
        for name in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_namemax",
        ):
            setattr(data, name, getattr(real, name))
        if overlay.quota is not None:
            overlay.quota.limit(data)
        return data

    # Extended attributes

    @_answered
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        attributes.setxattr(self._overlay, self._nodes[inode], name, value)

    @_answered
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return attributes.getxattr(self._overlay, self._nodes[inode], name)

    @_answered
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return attributes.listxattr(self._overlay, self._nodes[inode])

    @_answered
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        attributes.removexattr(self._overlay, self._nodes[inode], name)

    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        # The kernel checks (default_permissions); ENOSYS: never ask again.
        raise FUSEError(errno.ENOSYS)

    def stacktrace(self) -> None:
        """pyfuse3 logs stacks when told so by an xattr of the root; nothing of ours waits."""

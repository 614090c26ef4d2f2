"""The adapter to pyfuse3: the requests that it answers, out of the modules of operations.

Those are what neither tells attributes nor moves data; `entries`, `content` and `directories` have
the others. Every handler turns an OSError into its errno and anything else into EIO, logged: an
exception that is no FUSEError would end pyfuse3's loop.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pyfuse3
from pyfuse3 import FUSEError, RequestContext

from . import attributes, names
from .inodes import Dir, UnknownNode
from .state import Overlay

log = logging.getLogger("fuse_overlay")

_T = TypeVar("_T")
_STATFS = (
    "f_bsize",
    "f_frsize",
    "f_blocks",
    "f_bfree",
    "f_bavail",
    "f_files",
    "f_ffree",
    "f_favail",
    "f_namemax",
)


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
        config = overlay.config
        self.enable_acl = config.acl
        self.enable_writeback_cache = (
            config.upper is not None and overlay.quota is None
            if config.writeback is None
            else config.writeback
        )

    @_answered
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        node = self._nodes[inode]
        if node.fd >= 0:
            return os.readlink(b"", dir_fd=node.fd)
        return os.readlink(node.real, dir_fd=node.where.open())

    @_answered
    def rmdir(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        node = self._nodes[parent]
        if not isinstance(node, Dir):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        names.rmdir(self._overlay, node, name)

    @_answered
    def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        overlay = self._overlay
        real = os.fstatvfs(overlay.root.top.open())
        data = pyfuse3.StatvfsData()
        for name in _STATFS:
            setattr(data, name, getattr(real, name))
        if overlay.quota is not None:
            overlay.quota.limit(data)
        return data

    @_answered
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        attributes.setxattr(self._overlay, self._nodes[inode], name, value)

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

"""What setting up a container left in its upper: empty files and directories to mount on.

They are no part of what the command did, so they go before the upper becomes a layer. A directory
that was only copied up for one of them goes, too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from fuse_overlay import whiteout
from sandbox.build.layer_writer import LayerWriter
from sandbox.build.tree import ImageTree, Node, resolve

_ALWAYS = (
    "/proc",
    "/sys",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/apt/apt.conf.d/00sbx-single-uid",
)


def remove_stubs(upper: str, lower: tuple[str, ...], targets: Iterable[str]) -> None:
    """Remove what the mounts of *targets* and the standard ones left in *upper*."""
    tree = ImageTree(lower)
    try:
        top = ImageTree((upper, *lower))
        try:
            follow = LayerWriter(top, epoch=None, now=0).follow
            paths = [follow(target) for target in (*_ALWAYS, *targets)]
        finally:
            top.close()
        for path in sorted(paths, key=lambda p: p.count("/"), reverse=True):
            _remove(upper, path, tree)
    finally:
        tree.close()
        os.chdir("/")


def _remove(upper: str, path: str, tree: ImageTree) -> None:
    before = resolve(tree, path, follow=False)
    if before is None and not _remove_empty(f"{upper}/{path}"):
        return
    while "/" in path:
        path = path.rpartition("/")[0]
        before = resolve(tree, path, follow=False)
        if before is not None and not _is_unchanged(upper, path, before):
            return
        if not _remove_empty(f"{upper}/{path}"):
            return


def _remove_empty(path: str) -> bool:
    """Remove an empty file or directory; return whether it is gone."""
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(path)
        else:
            return False
    except OSError as err:
        return err.errno == errno.ENOENT
    return True


def _is_unchanged(upper: str, path: str, before: Node) -> bool:
    """Return whether a directory of the upper is but a copy of the one below."""
    name = os.fsencode(f"{upper}/{path}")
    try:
        attributes = whiteout.list_xattrs(name)
        if whiteout.is_opaque(name, attributes):
            return False
    except OSError:
        return False
    top = ImageTree((upper,))
    try:
        node = resolve(top, path, follow=False)
    finally:
        top.close()
    return node is not None and (node.mode, node.uid, node.gid) == (
        before.mode,
        before.uid,
        before.gid,
    )

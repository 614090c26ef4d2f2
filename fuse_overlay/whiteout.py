"""The marks an overlay leaves on disk, in the kernel's format.

Source: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", with the
``userxattr`` names; the ``.wh.`` files are those of the OCI image specification, layer.md.
"""

from __future__ import annotations

import errno
import os
import stat

OPAQUE = b"user.overlay.opaque"
REDIRECT = b"user.overlay.redirect"
XWHITEOUT = b"user.overlay.whiteout"
NLINK = b"user.overlay.nlink"
INO = b"user.overlay.ino"
PLAIN = b"user.overlay.plain"
NODE = b"user.overlay.node"  # a device 0:0 of a user's: an empty file with this mark ...
NODES = b"user.overlay.nodes"  # ... in a directory with this one

_PREFIX = b"user.overlay."
_ESCAPED = b"user.overlay.overlay."
_FOREIGN_OPAQUE = (b"user.fuseoverlayfs.opaque", b"trusted.overlay.opaque")
_FOREIGN = (b"user.fuseoverlayfs.", b"trusted.overlay.")

DOT = b".wh."
DOT_OPAQUE = b".wh..wh..opq"

# What reading an xattr says when there is none, or none can be (EBADF: an O_PATH descriptor).
ABSENT = frozenset((errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EBADF))


def is_whiteout(st: os.stat_result) -> bool:
    """A character device 0:0 hides the name below it."""
    return st.st_rdev == 0 and stat.S_ISCHR(st.st_mode)


def make_whiteout(name: bytes, dir_fd: int) -> None:
    """mknod(2) of device 0:0, which needs no privilege since Linux 5.8."""
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)


def is_user_whiteout(name: bytes | int, st: os.stat_result) -> bool:
    """Whether an empty file stands for a device 0:0 that a user made (for an overlay of his)."""
    return stat.S_ISREG(st.st_mode) and not st.st_size and read_xattr(name, NODE) is not None


def is_dot_name(name: bytes) -> bool:
    """Whether *name* could be one of the OCI specification's marks."""
    return name.startswith(DOT)


def dot_mark(name: bytes) -> bytes:
    """The OCI name of the mark that hides *name*."""
    return DOT + name


def read_xattr(name: bytes | int, attribute: bytes) -> bytes | None:
    """An xattr of a name in the working directory (never following a link) or of an fd."""
    try:
        if isinstance(name, int):
            return os.getxattr(name, attribute)
        return os.getxattr(name, attribute, follow_symlinks=False)
    except OSError as err:
        if err.errno in ABSENT:
            return None
        raise


def list_xattrs(name: bytes | int) -> list[str]:
    """The xattrs of a name in the working directory, or of an fd; none where there can be none."""
    try:
        if isinstance(name, int):
            return os.listxattr(name)
        return os.listxattr(name, follow_symlinks=False)
    except OSError as err:
        if err.errno in ABSENT:
            return []
        raise


def is_opaque(name: bytes | int, attributes: list[str]) -> bool:
    """Whether a directory hides what lies below it: ours, the kernel's or fuse-overlayfs's mark."""
    for attribute in (OPAQUE, *_FOREIGN_OPAQUE):
        if attribute.decode() in attributes and read_xattr(name, attribute) == b"y":
            return True
    return False


def redirect_of(name: bytes | int, attributes: list[str]) -> tuple[bytes, ...] | None:
    """The path below the lowers' root (or the one sibling name) that a directory came from.

    An absolute redirect starts with an empty component. One that is not a clean path is no
    redirect: the mark may come from a hostile layer.
    """
    if REDIRECT.decode() not in attributes:
        return None
    value = read_xattr(name, REDIRECT)
    return clean_redirect(value) if value else None


def clean_redirect(value: bytes) -> tuple[bytes, ...] | None:
    """The components of a redirect; None if it is no clean path."""
    parts = tuple(value.split(b"/"))
    names = parts[1:] if parts[0] == b"" else parts
    if not names or any(part in (b"", b".", b"..") for part in names):
        return None
    if parts[0] != b"" and len(parts) > 1:
        return None
    return parts


def to_disk(name: bytes) -> bytes:
    """The name under which a user's xattr is kept: his own overlay marks are escaped."""
    if name.startswith(_PREFIX):
        return _ESCAPED + name[len(_PREFIX) :]
    return name


def from_disk(name: bytes) -> bytes | None:
    """The name a user sees for an xattr on disk, None for our own marks."""
    if name.startswith(_ESCAPED):
        return _PREFIX + name[len(_ESCAPED) :]
    if name.startswith(_PREFIX) or name.startswith(_FOREIGN):
        return None
    return name


def has_xwhiteouts(name: bytes | int, attributes: list[str]) -> bool:
    """Whether a directory is marked as one that has whiteouts in the form of xattrs."""
    return OPAQUE.decode() in attributes and read_xattr(name, OPAQUE) == b"x"

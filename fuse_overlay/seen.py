"""Files that the kernel was told of and that nobody has used yet, each kept in a few bytes.

Listing a directory tells the kernel of every name in it. Most of these files are never opened, so
until then a record of bytes stands for the node: the directory's id, what a live lower's content
was told by, the layer, the type, the name. Only files of lowers that are as their real attributes
say are kept like this; the kernel has one reference to each.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inodes import Dir
    from .layers import LayerDir

Record = bytes

_HEAD = struct.Struct("=QQHB")  # parent's id, stamp, number of the layer, type
_TYPE_SHIFT = 12


def record(parent: int, where: LayerDir, name: bytes, kind: int, stamp: int) -> Record:
    """The record of a file; *kind* is S_IFMT of its mode."""
    return _HEAD.pack(parent, stamp, where.layer.index, kind >> _TYPE_SHIFT) + name


def parent_of(kept: Record) -> int:
    """The node id of the directory."""
    found: int = _HEAD.unpack_from(kept)[0]
    return found


def details(kept: Record, parent: Dir) -> tuple[LayerDir, bytes, int, int]:
    """Real directory, name, kind and stamp of a file in the merged directory *parent*."""
    _, stamp, index, kind = _HEAD.unpack_from(kept)
    where = next(lower for lower in parent.lowers if lower.layer.index == index)
    return where, kept[_HEAD.size :], kind << _TYPE_SHIFT, stamp

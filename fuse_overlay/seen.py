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

_HEAD = struct.Struct("=QHB")  # parent's id, number of the layer, type
_STAMP = struct.Struct("=Q")  # follows if the type says so
_TYPE_SHIFT = 12
_STAMPED = 1 << 7


def record(parent: int, where: LayerDir, name: bytes, kind: int, stamp: int) -> Record:
    """The record of a file; *kind* is S_IFMT of its mode, *stamp* 0 if it needs none."""
    short = kind >> _TYPE_SHIFT
    if stamp:
        head = _HEAD.pack(parent, where.layer.index, short | _STAMPED)
        return head + _STAMP.pack(stamp) + name
    return _HEAD.pack(parent, where.layer.index, short) + name


def parent_of(kept: Record) -> int:
    """The node id of the directory."""
    found: int = _HEAD.unpack_from(kept)[0]
    return found


def details(kept: Record, parent: Dir) -> tuple[LayerDir, bytes, int, int]:
    """Real directory, name, kind and stamp of a file in the merged directory *parent*."""
    _, index, short = _HEAD.unpack_from(kept)
    begin, stamp = _HEAD.size, 0
    if short & _STAMPED:
        (stamp,) = _STAMP.unpack_from(kept, begin)
        begin += _STAMP.size
    where = next(lower for lower in parent.lowers if lower.layer.index == index)
    return where, kept[begin:], (short & ~_STAMPED) << _TYPE_SHIFT, stamp

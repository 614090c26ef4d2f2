"""A layer's changeset (OCI image specification, layer.md) of an overlay's upper directory.

The reverse of `apply_layer`. The archive depends on nothing but the tree: names are sorted, times
are whole seconds. What docs/overlay.md says of the format on disk is undone: whiteouts become
`.wh.` files, a renamed directory is written out in full, and the names of a hard-linked file that
lead to its copy in the index become links.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from fuse_overlay import whiteout
from sandbox.image.apply_layer import Applied
from sandbox.image.members import Members
from sandbox.image.tar_writer import END
from sandbox.image.upper_walk import Changed, Difference, Removed, Upper, differences

__all__ = ["LayerDiff", "Upper"]

_GATHERED = 1 << 18  # bytes of small members that go on as one chunk


class LayerDiff(Struct):
    """The layer of an upper: iterate over it once, then ask what was left out."""

    upper: Upper
    epoch: int | None = None  # SOURCE_DATE_EPOCH: no time is later
    left_out: Applied = field(default_factory=Applied)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the archive in chunks. The working directory changes until its end."""
        members = Members(self.epoch, left_out=self.left_out)
        return gathered(self._members(members, differences(self.upper)))

    def _members(self, members: Members, found: Iterator[Difference]) -> Iterator[bytes]:
        for difference in found:
            above, slash, name = difference.path.rpartition(b"/")
            if isinstance(difference, Removed) and difference.opaque:
                inside = difference.path + b"/" if difference.path else b""
                yield members.mark(inside + whiteout.DOT_OPAQUE)
            elif b"/" + whiteout.DOT in b"/" + difference.path:
                # In a layer such a name is a mark, whatever lies there or below it.
                if isinstance(difference, Changed):
                    self.left_out.leave_out("name that begins with .wh.", difference.path)
            elif isinstance(difference, Removed):
                yield members.mark(above + slash + whiteout.dot_mark(name))
            else:
                yield from members.member(
                    difference.path, difference.where, difference.name, shared=difference.shared
                )
        yield END


def gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small chunks: each costs its way through hashing and packing."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _GATHERED:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)

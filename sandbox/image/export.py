"""A container's whole tree as a tar archive: `sbx export`."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from sandbox.image.apply_layer import Applied
from sandbox.image.layer_diff import gathered
from sandbox.image.members import Members
from sandbox.image.tar_writer import END
from sandbox.image.upper_walk import Changed, Upper, differences


class Export(Struct):
    """The archive: iterate over it once, then ask what was left out."""

    upper: Upper
    left_out: Applied = field(default_factory=Applied)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the archive in chunks. The working directory changes until its end."""
        return gathered(self._members())

    def _members(self) -> Iterator[bytes]:
        members = Members(left_out=self.left_out)
        for difference in differences(self.upper, everything=True):
            if isinstance(difference, Changed):
                yield from members.member(
                    difference.path, difference.where, difference.name, shared=difference.shared
                )
        yield END

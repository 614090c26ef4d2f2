"""The extended attributes of a file of a layer, as users see them and as an image holds them."""

from __future__ import annotations

import os

from fuse_overlay import whiteout
from sandbox.image.ownership import OVERRIDE

_CAPABILITY = "security.capability"


def shown_xattrs(name: bytes, attributes: list[str]) -> dict[str, bytes]:
    """Return the values of those of *attributes* that go along with the file *name*.

    *name* is in the working directory, never followed. Marks of the overlay, recorded owners and
    labels, which are the host's affair, stay behind.
    """
    found = {}
    for attribute in attributes:
        shown = whiteout.from_disk(os.fsencode(attribute))
        if shown is None or attribute == OVERRIDE or attribute.startswith("trusted."):
            continue
        if attribute.startswith("security.") and attribute != _CAPABILITY:
            continue
        value = whiteout.read_xattr(name, os.fsencode(attribute))
        if value is not None:
            plain = _plain_capability(value) if attribute == _CAPABILITY else value
            found[os.fsdecode(shown)] = plain
    return found


def _plain_capability(value: bytes) -> bytes:
    """Return a file's capabilities without the id of the root that they are for (vfs_cap_data).

    In an image they are for the root of whatever it runs in.
    """
    revision = int.from_bytes(value[:4], "little")
    if revision >> 24 == 3 and len(value) == 24:
        return (2 << 24 | revision & 0xFFFFFF).to_bytes(4, "little") + value[4:20]
    return value

"""Whose the files of a layer are on disk.

With subordinate ids a file is given to the owner that the archive names, as an id of the storage
namespace. With a single id that is impossible: the owner is kept in an extended attribute, in the
format of containers-storage (`uid:gid:mode[:type]`), which the overlay shows instead.
"""

from __future__ import annotations

import os
from typing import Literal

from sandbox.linux import idmap

Ownership = Literal["real", "recorded"]
OVERRIDE = "user.containers.override_stat"


def mapped_ids() -> int:
    """Return how many ids from 0 on this process's user namespace has, of both kinds."""
    return min(idmap.total(idmap.read_map(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def available_ownership() -> Ownership:
    """Return what this process can do: chown(2) to other ids, or only record them."""
    return "real" if os.geteuid() == 0 and mapped_ids() > 1 else "recorded"


def override_stat(uid: int, gid: int, mode: int, *, directory: bool) -> bytes:
    return f"{uid}:{gid}:{mode:o}:{'dir' if directory else 'file'}".encode()

"""How much a container has written."""

from __future__ import annotations

import os

from sandbox.state import Container

_BLOCK = 512  # the unit of st_blocks, whatever the file system's own (stat(2))


def upper_size(container: Container) -> int:
    """Return the bytes on disk of the container's upper layer, each hard link counted once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [os.path.join(container.directory, "upper")]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue  # it went while we looked
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * _BLOCK
    return total

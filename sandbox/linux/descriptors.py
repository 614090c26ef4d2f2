"""Which descriptors a process keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sandbox.linux.syscalls import close_range


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in *kept* (close_range(2))."""
    first = 0
    for descriptor in sorted(set(kept)):
        if descriptor > first:
            close_range(first, descriptor - 1)
        first = descriptor + 1
    close_range(first)


def null_streams() -> None:
    """Put /dev/null on the standard streams, letting go of what was there."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for target in (0, 1, 2):
        os.dup2(null, target)
    if null > 2:
        os.close(null)

"""Which descriptors a process keeps."""

from __future__ import annotations

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

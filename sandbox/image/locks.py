"""The store's two locks (flock(2): the kernel drops them with the process that held them).

content.lock is held *shared* by whoever adds blobs or layers, or has read a layer's path and is
about to write it down, and *exclusive* by who removes what nothing refers to. So the remover knows
that everything in `staging/` was left by a crash.

index.lock is held exclusive for the moment in which index.json is read, changed and replaced.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold *path* shared; wait for it."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold *path* exclusive; wait for it."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold *path* exclusive if nobody holds it; say whether."""
    with _opened(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

"""Remove trees that images and containers wrote, following no link and stopped by no mode.

shutil.rmtree does the first; a directory without write permission stops it where the process has
no CAP_DAC_OVERRIDE over it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove *path* with all below it; nothing there is fine."""
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_entry(os.fsencode(path.name), parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


def remove_entry(name: bytes, parent: int) -> None:
    """Remove *name* in the directory *parent*, with all below it.

    A layer may nest directories deeper than there are descriptors: what is nested is moved up
    until nothing is.
    """
    if not _remove_leaf(name, parent):
        return
    top = _open_directory(name, parent)
    try:
        while entries := os.listdir(top):
            for entry in entries:
                if _remove_leaf(os.fsencode(entry), top):
                    _remove_flat(os.fsencode(entry), top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _remove_leaf(name: bytes, parent: int) -> bool:
    """Remove *name* unless it is a directory; return whether it is."""
    if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
        return True
    os.unlink(name, dir_fd=parent)
    return False


def _remove_flat(name: bytes, top: int) -> None:
    """Remove the directory *name* of *top*; move the directories in it to *top*."""
    directory = _open_directory(name, top)
    try:
        for entry in os.listdir(directory):
            nested = os.fsencode(entry)
            if not _remove_leaf(nested, directory):
                continue
            try:
                os.rmdir(nested, dir_fd=directory)
            except OSError:
                # rename(2) changes the directory's "..", for which it has to be writable.
                os.close(_open_directory(nested, directory))
                aside = b"removed-" + os.urandom(8).hex().encode()
                os.rename(nested, aside, src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _open_directory(name: bytes, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, os.O_PATH | flags, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o700 != 0o700:
            # The descriptor can't be swapped for a link to elsewhere as a name could.
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
        return os.open(".", flags, dir_fd=descriptor)
    finally:
        os.close(descriptor)

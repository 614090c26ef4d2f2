"""``--check``: what is wrong in an upper and its work directory that are not mounted.

Reads only. A server that was killed leaves nothing to repair; this finds what other hands did.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator

from . import whiteout


def main(words: list[str]) -> int:
    """Print the findings; 0 if there are none."""
    if len(words) != 2:
        print("usage: sbx-fuse-overlay --check UPPER WORK", file=sys.stderr)
        return 2
    found = [*check_upper(words[0]), *check_work(words[1])]
    for line in found:
        print(line)
    return 1 if found else 0


def check_upper(path: str) -> Iterator[str]:
    """Marks in the upper that mean nothing, and ids that two files claim."""
    ids: dict[bytes, tuple[int, str]] = {}
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for root, dirs, files, dir_fd in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
        for name in [*dirs, *files]:
            st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if not stat.S_ISDIR(st.st_mode) and not stat.S_ISREG(st.st_mode):
                continue
            os.fchdir(dir_fd)
            shown = os.path.normpath(os.path.join(root, name))
            marks = {
                mark: whiteout.read_xattr(os.fsencode(name), os.fsencode(mark))
                for mark in whiteout.list_xattrs(os.fsencode(name))
                if whiteout.from_disk(os.fsencode(mark)) is None
            }
            yield from _check_marks(shown, stat.S_ISDIR(st.st_mode), marks)
            kept = marks.get(whiteout.INO.decode())
            if kept is not None:
                other = ids.setdefault(kept, (st.st_ino, shown))
                if other[0] != st.st_ino:
                    yield f"{shown}: has the inode number of {other[1]}"
    os.close(fd)


def _check_marks(shown: str, is_dir: bool, marks: dict[str, bytes | None]) -> Iterator[str]:
    opaque = marks.get(whiteout.OPAQUE.decode())
    if opaque is not None and opaque not in (b"y", b"x"):
        yield f"{shown}: {whiteout.OPAQUE.decode()} is {opaque!r}, not y or x"
    redirect = marks.get(whiteout.REDIRECT.decode())
    if redirect is not None and (not is_dir or whiteout.clean_redirect(redirect) is None):
        yield f"{shown}: {whiteout.REDIRECT.decode()} leads nowhere: {redirect!r}"
    nlink = marks.get(whiteout.NLINK.decode())
    if nlink is not None and not re.fullmatch(rb"[UL][+-]\d+", nlink):
        yield f"{shown}: {whiteout.NLINK.decode()} is {nlink!r}"
    ino = marks.get(whiteout.INO.decode())
    if ino is not None and not ino.isdigit():
        yield f"{shown}: {whiteout.INO.decode()} is {ino!r}"


def check_work(path: str) -> Iterator[str]:
    """Leftovers of a server that was killed, and copies that no name leads to."""
    for name in _names(os.path.join(path, "work")):
        # The one whiteout that the others are links to stays.
        if not whiteout.is_whiteout(os.lstat(os.path.join(path, "work", name))):
            yield f"work/{name}: left behind (the next mount removes it)"
    for name in _names(os.path.join(path, "index")):
        where = os.path.join(path, "index", name)
        if name.endswith(".gone"):
            continue
        st = os.lstat(where)
        extra = whiteout.read_xattr(os.fsencode(where), whiteout.NLINK)
        if extra is None:
            yield f"index/{name}: no {whiteout.NLINK.decode()}"
        elif st.st_nlink + int(extra[1:]) < 1:
            yield f"index/{name}: no name is left"


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []

"""The one system call that Python's os module lacks here: renameat2(2)."""

from __future__ import annotations

import ctypes
import os

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)


def renameat2(olddirfd: int, oldpath: bytes, newdirfd: int, newpath: bytes, flags: int) -> None:
    """renameat2(2), in glibc since 2.28."""
    if _libc.renameat2(olddirfd, oldpath, newdirfd, newpath, flags) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), oldpath, None, newpath)

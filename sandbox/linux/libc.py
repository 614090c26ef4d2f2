"""The C library and the raw syscall entry, with errors as OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Any, NoReturn

libc: Any = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def raise_errno(*filenames: object) -> NoReturn:
    """Raise OSError for the calling thread's errno, naming what the call was about."""
    errno = ctypes.get_errno()
    name = filenames[0] if filenames else None
    raise OSError(errno, os.strerror(errno), None if name is None else str(name))


def syscall(number: int, *arguments: Any) -> int:
    """Call syscall(2). Raises OSError; never returns -1.

    Integers are passed as C longs: a bare Python int would be cut to 32 bits.
    """
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        raise_errno()
    return result

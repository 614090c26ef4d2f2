"""The file-descriptor based mount calls of Linux 5.2 and later, for new file systems.

A file system is configured on a descriptor (fsopen(2), fsconfig(2)), made a detached mount
(fsmount(2)) and attached with move_mount(2): no path is looked up twice.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from sandbox.errors import Unavailable
from sandbox.linux.libc import syscall
from sandbox.linux.syscalls import (
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    move_mount,
)

_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

# A mount option: (name, value), or (name, None) for a flag.
Option = tuple[str, str | None]


def new_mount(
    fstype: str, options: Sequence[Option] = (), attributes: int = 0, source: str | None = None
) -> int:
    """Return the descriptor of a new, detached mount of type *fstype*.

    *attributes* are MOUNT_ATTR_ flags. Raises OSError whose text holds what the file system said.
    """
    context = syscall(_NR_FSOPEN, ctypes.c_char_p(fstype.encode()), _FSOPEN_CLOEXEC)
    try:
        if source is not None:
            _fsconfig(context, _FSCONFIG_SET_STRING, "source", source)
        for name, value in options:
            kind = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            _fsconfig(context, kind, name, value)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None)
        return syscall(_NR_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    except OSError as err:
        raise OSError(err.errno, f"{err.strerror}{_messages(context)}", fstype) from None
    finally:
        os.close(context)


def open_fuse() -> int:
    """Return a new FUSE connection's descriptor (fuse(4)). Raises Unavailable."""
    try:
        return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        raise Unavailable(
            "/dev/fuse can't be opened", detail=err.strerror, hint="sbx doctor"
        ) from err


def attach(mount: int, target: int) -> None:
    """Attach a detached mount on the object that *target* refers to."""
    move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def _fsconfig(context: int, command: int, key: str | None, value: str | None) -> None:
    syscall(
        _NR_FSCONFIG,
        context,
        command,
        ctypes.c_char_p(None if key is None else key.encode()),
        ctypes.c_char_p(None if value is None else os.fsencode(value)),
        0,
    )


def _messages(context: int) -> str:
    """Return what the kernel logged on the context, or an empty string."""
    said = []
    while True:
        try:
            said.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:
            return "".join(f" ({line})" for line in said)

"""clone3(2) for a Python process: fork(2) with namespace flags."""

from __future__ import annotations

import ctypes

from sandbox.linux.syscalls import NR_CLONE3

CLONE_PARENT = 0x00008000

# The lock of the interpreter is kept over the call (PyDLL), as os.fork does.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _CloneArgs(ctypes.Structure):
    # struct clone_args, version 1 (CLONE_ARGS_SIZE_VER0, 64 bytes)
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("pidfd", ctypes.c_uint64),
        ("child_tid", ctypes.c_uint64),
        ("parent_tid", ctypes.c_uint64),
        ("exit_signal", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("stack_size", ctypes.c_uint64),
        ("tls", ctypes.c_uint64),
    )


def fork_sibling(flags: int = 0) -> int:
    """Fork with CLONE_PARENT: the new process is a child of this process's parent.

    *flags* are CLONE_NEW… flags. Returns 0 in the new process and its pid (as seen here) in this
    one. The exit signal is that of the caller (clone(2)). CPython is told of the fork by
    PyOS_BeforeFork and its companions, so the new process is as sound as after os.fork().
    """
    api = ctypes.pythonapi
    arguments = _CloneArgs(flags=flags | CLONE_PARENT)
    api.PyOS_BeforeFork()
    pid = int(
        _libc.syscall(
            ctypes.c_long(NR_CLONE3),
            ctypes.byref(arguments),
            ctypes.c_size_t(ctypes.sizeof(arguments)),
        )
    )
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    errno = ctypes.get_errno()
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(errno, "clone3")
    return pid

"""One wrapper per system call: the man page's name and argument order, raising OSError.

Numbers above 423 are the same on every architecture (Documentation/process/adding-syscalls.rst);
the older ones come from libc's own functions.
"""

from __future__ import annotations

import ctypes
import os

from sandbox.linux.libc import libc, raise_errno, syscall

StrPath = str | os.PathLike[str]

# include/uapi/linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# include/uapi/linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 0x2
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

# include/uapi/linux/openat2.h
RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_SET_SECUREBITS = 28

KEYCTL_JOIN_SESSION_KEYRING = 1

NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_CLONE3 = 435
NR_CLOSE_RANGE = 436
NR_OPENAT2 = 437
NR_MOUNT_SETATTR = 442

_NR_BY_MACHINE = {  # arch/*/entry/syscalls
    "x86_64": {"pivot_root": 155, "keyctl": 250},
    "aarch64": {"pivot_root": 41, "keyctl": 219},
    "riscv64": {"pivot_root": 41, "keyctl": 219},
}
_NR = _NR_BY_MACHINE.get(os.uname().machine, {})


def _path(path: StrPath | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def unshare(flags: int) -> None:
    """unshare(2). os.unshare exists from Python 3.12 on; this serves 3.11 as well."""
    if libc.unshare(flags) < 0:
        raise_errno("unshare")


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2); *fd* is a namespace or a pidfd."""
    if libc.setns(fd, nstype) < 0:
        raise_errno("setns")


def mount(
    source: StrPath | None,
    target: StrPath,
    fstype: str | None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2)."""
    if (
        libc.mount(
            _path(source),
            _path(target),
            None if fstype is None else fstype.encode(),
            ctypes.c_ulong(flags),
            None if data is None else data.encode(),
        )
        < 0
    ):
        raise_errno(target)


def umount2(target: StrPath, flags: int = 0) -> None:
    """umount2(2)."""
    if libc.umount2(_path(target), flags) < 0:
        raise_errno(target)


def pivot_root(new_root: StrPath, put_old: StrPath) -> None:
    """pivot_root(2)."""
    syscall(_NR["pivot_root"], ctypes.c_char_p(_path(new_root)), ctypes.c_char_p(_path(put_old)))


def open_tree(dfd: int, filename: StrPath, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE a detached copy of the mount there; returns its fd."""
    return syscall(NR_OPEN_TREE, dfd, ctypes.c_char_p(_path(filename)), flags)


def move_mount(
    from_dfd: int, from_path: StrPath, to_dfd: int, to_path: StrPath, flags: int
) -> None:
    """move_mount(2)."""
    syscall(
        NR_MOVE_MOUNT,
        from_dfd,
        ctypes.c_char_p(_path(from_path)),
        to_dfd,
        ctypes.c_char_p(_path(to_path)),
        flags,
    )


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    dfd: int,
    path: StrPath,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
) -> None:
    """mount_setattr(2), Linux 5.12."""
    attr = _MountAttr(attr_set, attr_clr, propagation, 0)
    syscall(
        NR_MOUNT_SETATTR,
        dfd,
        ctypes.c_char_p(_path(path)),
        flags,
        ctypes.byref(attr),
        ctypes.sizeof(attr),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(dirfd: int, pathname: StrPath, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6: open without leaving *dirfd*, as *resolve* says. Adds O_CLOEXEC."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    try:
        return syscall(
            NR_OPENAT2,
            dirfd,
            ctypes.c_char_p(_path(pathname)),
            ctypes.byref(how),
            ctypes.sizeof(how),
        )
    except OSError as err:
        raise OSError(err.errno, err.strerror, os.fspath(pathname)) from None


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2)."""
    result = libc.prctl(
        option,
        ctypes.c_ulong(arg2),
        ctypes.c_ulong(arg3),
        ctypes.c_ulong(arg4),
        ctypes.c_ulong(arg5),
    )
    if result < 0:
        raise_errno("prctl")
    return int(result)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2), Linux 5.9."""
    syscall(NR_CLOSE_RANGE, first, last, flags)


def join_session_keyring() -> None:
    """Give the process a new, anonymous session keyring (keyctl(2))."""
    syscall(_NR["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, ctypes.c_char_p(None))


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = name.encode()
    if libc.sethostname(raw, ctypes.c_size_t(len(raw))) < 0:
        raise_errno("sethostname")


def set_name(name: str) -> None:
    """Set the name that ps(1) shows for this thread (PR_SET_NAME, 15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))

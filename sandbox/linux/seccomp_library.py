"""libseccomp through ctypes: names to numbers, and rules to BPF (seccomp_init(3)).

It is loaded when a filter has to be compiled and never to run one from the cache.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sandbox.errors import Unavailable
from sandbox.linux.seccomp_bpf import RET_ERRNO
from sandbox.linux.seccomp_profile import OPERATORS, Condition
from sandbox.linux.seccomp_syscalls import LIBRARY

_ACT_BADARCH = 2  # enum scmp_filter_attr
_CTL_OPTIMIZE = 8
_BINARY_TREE = 2
_API_LEVEL = 3  # SCMP_ACT_KILL_PROCESS and SCMP_ACT_LOG
_UNKNOWN = -1  # __NR_SCMP_ERROR
_EEXIST = 17


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@cache
def library() -> Any:
    """Return the loaded library. Raises Unavailable."""
    try:
        loaded: Any = ctypes.CDLL(LIBRARY)
    except OSError as err:
        raise Unavailable(
            f"{LIBRARY} is not installed", detail=str(err), hint="apt-get install libseccomp2"
        ) from err
    loaded.seccomp_init.restype = ctypes.c_void_p
    loaded.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    # Without this it asks the running kernel which actions there are; programs are made for the
    # kernel of sbx's minimum version, and checked by installing them.
    if hasattr(loaded, "seccomp_api_set"):
        loaded.seccomp_api_set(ctypes.c_uint(_API_LEVEL))
    return loaded


def resolve(name: str, token: int) -> int | None:
    """Return the number of the call *name* on the architecture *token*.

    None: no such call there. Negative: a call that exists as a part of another one (socketcall).
    """
    number = library().seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
    return None if number == _UNKNOWN or -20000 < number <= -10000 else int(number)


def known(name: str) -> bool:
    """True when libseccomp has heard of *name*, be it for another architecture."""
    return int(library().seccomp_syscall_resolve_name(name.encode())) != _UNKNOWN


def name_of(number: int, token: int) -> str | None:
    """Return the name of call *number* on the architecture *token*."""
    found = library().seccomp_syscall_resolve_num_arch(ctypes.c_uint32(token), number)
    if not found:
        return None
    name = ctypes.string_at(found).decode()
    libc = ctypes.CDLL(None)
    libc.free(ctypes.c_void_p(found))
    return name


Entry = tuple[str, tuple[Condition, ...]]


def build(
    default: int, action: int, entries: Iterable[Entry], tokens: Sequence[int], bad_arch: int
) -> bytes:
    """Return a program that answers *entries* with *action* and every other call with *default*.

    *tokens* are the architectures; a call of any other one is answered with *bad_arch*. One
    action in a program, because libseccomp leaves open what wins where two overlap.
    """
    lib = library()
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise Unavailable(f"libseccomp refuses the action {default:#x}")
    try:
        _settle(lib, context, tokens, bad_arch)
        if action != default:  # libseccomp refuses a rule that changes nothing
            for name, conditions in entries:
                _add(lib, context, action, name, conditions)
        return _export(lib, context)
    finally:
        lib.seccomp_release(context)


def _settle(lib: Any, context: ctypes.c_void_p, tokens: Sequence[int], bad_arch: int) -> None:
    _expect("seccomp_attr_set", lib.seccomp_attr_set(context, _ACT_BADARCH, _u32(bad_arch)))
    # Older than 2.5: no binary trees, and nothing lost but time.
    lib.seccomp_attr_set(context, _CTL_OPTIMIZE, _u32(_BINARY_TREE))
    for token in tokens:
        result = lib.seccomp_arch_add(context, _u32(token))
        if result != -_EEXIST:  # the native one is there from the start
            _expect("seccomp_arch_add", result)


def _add(
    lib: Any, context: ctypes.c_void_p, action: int, name: str, conditions: Sequence[Condition]
) -> None:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number == _UNKNOWN:
        return
    comparisons = (_Comparison * max(1, len(conditions)))(
        *(
            _Comparison(c.index, OPERATORS.index(c.operator) + 1, c.value, c.value_two)
            for c in conditions
        )
    )
    result = lib.seccomp_rule_add_array(
        context, _u32(action), number, ctypes.c_uint(len(conditions)), comparisons
    )
    if result != -_EEXIST:  # the same rule a second time
        _expect(f"seccomp_rule_add {name}", result)


def _export(lib: Any, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _expect("seccomp_export_bpf", lib.seccomp_export_bpf(context, fd))
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _u32(value: int) -> ctypes.c_uint32:
    return ctypes.c_uint32(value)


def _expect(call: str, result: int) -> None:
    if result < 0:
        raise Unavailable(f"libseccomp failed: {call}: {os.strerror(-result)}")


BAD_ARCHITECTURE = RET_ERRNO | 38  # ENOSYS, as a kernel without that ABI answers

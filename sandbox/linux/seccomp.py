"""Seccomp filters as the rest of sbx uses them: load a profile, compile it, install it.

Sources: seccomp(2), Documentation/userspace-api/seccomp_filter.rst. Docker's profile format is
read by `seccomp_json`, joined by `seccomp_compile`, kept by `seccomp_cache`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sandbox.errors import InvalidSpec, NotFound
from sandbox.linux import seccomp_cache
from sandbox.linux.libc import syscall
from sandbox.linux.seccomp_emulation import ID_ARGUMENTS
from sandbox.linux.seccomp_syscalls import native

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # Linux 5.19

# Raise it whenever the same profile gives another program.
_FORMAT = 3
_MAX_PROFILE = 1 << 20


class Filter(Struct, frozen=True):
    """Compiled programs, to be installed in this order."""

    programs: tuple[bytes, ...]  # raw arrays of struct sock_filter
    notify: bool = False  # the last program notifies, and wants a listener
    emulates: tuple[str, ...] = ()  # calls that are answered with success and not carried out


def load_profile(name_or_path: str, search: Sequence[Path]) -> bytes:
    """Return the text of a profile: a path when there is a slash in it, else a name in *search*.

    Raises NotFound, or InvalidSpec when it can't be read.
    """
    if "/" in name_or_path:
        candidates = [Path(name_or_path)]
    else:
        candidates = [directory / f"{name_or_path}.json" for directory in search]
    for path in candidates:
        try:
            return _read(path)
        except FileNotFoundError:
            continue
        except OSError as err:
            raise InvalidSpec(f"seccomp profile {path} can't be read: {err.strerror}") from err
    raise NotFound(
        f"no such seccomp profile: {name_or_path}",
        detail="\n".join(str(path) for path in candidates),
        hint="give one of docker's format by path: --security-opt seccomp=./FILE.json",
    )


def _read(path: Path) -> bytes:
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        content = file.read(_MAX_PROFILE + 1)
    if content is None or len(content) > _MAX_PROFILE:
        raise InvalidSpec(f"seccomp profile {path} is larger than {_MAX_PROFILE} bytes")
    return content


def compile_filter(
    profile: bytes,
    *,
    capabilities: frozenset[str],
    cache: Path,
    explain: bool = False,
    single_uid: bool = False,
    nest: bool = False,
    source: str = "seccomp profile",
) -> Filter:
    """Return the filter for *profile* (docker's JSON), from *cache* when it was made before.

    *capabilities* ("CAP_CHOWN" …) are the container's, for the gates of the profile. *explain*:
    what would be denied with an errno is notified instead. *single_uid*: changes to other owners
    succeed without being carried out. *nest*: namespaces and mounts are allowed. *source* names
    the profile in messages. Raises InvalidSpec for a profile that has no meaning.
    """
    key = _key(profile, capabilities, explain, single_uid, nest)
    program = seccomp_cache.load(cache, key)
    if program is None:
        program = _compile(profile, capabilities, explain, single_uid, nest, source)
        seccomp_cache.store(cache, key, program)
    return Filter((program,), explain, tuple(ID_ARGUMENTS) if single_uid else ())


def _key(
    profile: bytes, capabilities: frozenset[str], explain: bool, single_uid: bool, nest: bool
) -> bytes:
    machine = os.uname()
    release = ".".join(machine.release.split(".")[:2])
    facts = (
        _FORMAT,
        machine.machine,
        release,
        seccomp_cache.library_identity(),
        sorted(capabilities),
    )
    return f"{facts} {explain:d}{single_uid:d}{nest:d}\n".encode() + profile


def _compile(
    text: bytes,
    capabilities: frozenset[str],
    explain: bool,
    single_uid: bool,
    nest: bool,
    source: str,
) -> bytes:
    from sandbox.linux import seccomp_compile
    from sandbox.linux.seccomp_json import parse

    profile = parse(text, source).for_machine(seccomp_compile.this_machine(capabilities))
    if nest:
        profile = seccomp_compile.nesting(profile)
    program = seccomp_compile.compile_profile(profile, single_uid=single_uid)
    return seccomp_compile.notifying(program) if explain else program


class _Program(ctypes.Structure):  # struct sock_fprog (linux/filter.h)
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes, *, listener: bool = False) -> int | None:
    """Install *program* for the calling thread for good; return the listener's descriptor.

    no_new_privs must be set, or CAP_SYS_ADMIN be there. Makes the one system call and nothing
    else, so it can stand right before execve. Raises OSError (EBUSY: there is a listener already).
    """
    number = _seccomp_number()
    fprog = _Program(len(program) // 8, program)
    if not listener:
        syscall(number, SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(fprog))
        return None
    # A notified call that only a fatal signal interrupts is not notified over and over.
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    try:
        return syscall(number, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog))
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER
    return syscall(number, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog))


def _seccomp_number() -> int:
    here = native()
    if here is None:
        raise OSError(errno.ENOSYS, "no seccomp filters for this architecture")
    return here.seccomp

"""Landlock as a second wall behind the mount namespace (landlock(7)).

After pivot_root the container's root holds all that it may open. A directory that reaches it by
another way — a descriptor that sbx or its caller forgot to close (CVE-2024-21626 in runc), one sent
over a socket, a way out of the mount namespace — is not below that root, and Landlock refuses to
open anything there. Mounting is refused too.

Not used: the scope for signals and the rules for TCP. A pid namespace and a network namespace do
that, and a domain may signal its own members only: `sbx exec` makes a domain of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os

from sandbox.linux.libc import syscall

# Numbers above 423 are the same everywhere.
_NR_CREATE_RULESET = 444
_NR_ADD_RULE = 445
_NR_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

# linux/landlock.h. Rights come in runs of bits, so "all of them" is one more than the last.
_LAST_RIGHT = {2: 13, 3: 14, 4: 14, 5: 15}  # ABI → bit: refer, truncate, truncate, ioctl_dev
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6

_OLDEST = 2  # ABI 1 (before Linux 5.19) refuses every rename from one directory to another


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock that the running kernel has switched on, 0 for none."""
    try:
        return syscall(_NR_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError as err:
        if err.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def rights(version: int) -> int:
    """Return every access to files that Landlock's ABI *version* can handle."""
    return (2 << _LAST_RIGHT[min(version, max(_LAST_RIGHT))]) - 1


def restrict(root: str = "/", *, scope_abstract_sockets: bool = False) -> int:
    """Confine the calling thread and its children to the files below *root*, for good.

    *scope_abstract_sockets*: no connection to abstract UNIX sockets (unix(7)) that others made; it
    matters where the network namespace is the host's. no_new_privs must be set. Returns the ABI
    that was used; 0: this kernel has none, and nothing happened.
    """
    version = abi()
    if version < _OLDEST:
        return 0
    ruleset = _create_ruleset(version, scope_abstract_sockets)
    try:
        _allow_below(root, ruleset, rights(version))
        syscall(_NR_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _create_ruleset(version: int, scope_abstract_sockets: bool) -> int:
    scoped = _SCOPE_ABSTRACT_UNIX_SOCKET if scope_abstract_sockets and version >= 6 else 0
    attr = _RulesetAttr(rights(version), 0, scoped)
    # An older kernel takes the longer structure as long as what it doesn't know is 0.
    return syscall(_NR_CREATE_RULESET, ctypes.byref(attr), ctypes.sizeof(attr), 0)


def _allow_below(root: str, ruleset: int, access: int) -> None:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attr = _PathBeneathAttr(access, directory)
        syscall(_NR_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(attr), 0)
    finally:
        os.close(directory)

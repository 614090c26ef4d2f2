"""Holding the number of processes of a whole container without a cgroup, whatever ids they take.

RLIMIT_NPROC counts a uid of a user namespace, so a container that may change its uid gets it anew
with every id. But every process also counts for the user who made its namespace, and the limit
that this user had then bounds that sum (kernel/ucount.c, `is_rlimit_overlimit`; Linux 5.14). In the
storage namespace this user is the same for all containers; hence a namespace between, in which
nothing is counted but one container:

    storage namespace ── the one between (ids unchanged) ── the container's (with the limit)
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable

from sandbox.errors import SbxError
from sandbox.linux import idmap
from sandbox.linux.rlimits import UNLIMITED
from sandbox.linux.syscalls import CLONE_NEWUSER, unshare

_SINCE = (5, 14)
# While a container is set up, one process of ours starts its first.
_SMALLEST = 2


def _kernel() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


POSSIBLE = _kernel() >= _SINCE
WHY_NOT = "RLIMIT_NPROC counts each user id of the container by itself before Linux 5.14"


def enter(processes: int, uid_map: idmap.Map, gid_map: idmap.Map) -> None:
    """From the namespace between, enter one with these maps and *processes* processes at most.

    The calling process is alone in the one between, and root there. Raises OSError, SbxError.
    """
    own_pid = os.readlink("/proc/self")
    # The maps are written from outside, by a process that counts for as long as it lives.
    with _Beside(lambda: idmap.write_maps(own_pid, uid_map, gid_map)) as mapper:
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        limit = max(processes, _SMALLEST)
        limit = limit if hard == UNLIMITED else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        unshare(CLONE_NEWUSER)
        mapper.go()


class _Beside:
    """A child that does *work* when it is told to; afterwards it is gone."""

    def __init__(self, work: Callable[[], None]) -> None:
        read, self._write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            code = 1
            try:
                os.close(self._write)
                if os.read(read, 1):
                    work()
                    code = 0
            finally:
                os._exit(code)
        os.close(read)

    def __enter__(self) -> _Beside:
        return self

    def go(self) -> None:
        os.write(self._write, b"x")
        child, self._child = self._child, 0
        if os.waitpid(child, 0)[1] != 0:
            raise SbxError("the ids of the container could not be mapped")

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        if self._child:
            os.waitpid(self._child, 0)

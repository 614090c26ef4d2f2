"""Resource limits of a process, and what RLIMIT_NPROC holds in a user namespace."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

import pytest

from sandbox.doctor.trial import attempt
from sandbox.errors import InvalidSpec, SbxError, Unenforceable
from sandbox.linux import idmap, rlimits, storage_userns
from sandbox.linux.syscalls import CLONE_NEWUSER, unshare
from sandbox.spec import Ulimit

LIMIT = 8


def in_child(action: Callable[[], str | None]) -> str:
    worked, said = attempt(action)
    assert worked, said
    return said


def fork_until_refused(most: int = 4 * LIMIT) -> list[int]:
    """Fork sleeping children until the kernel says EAGAIN; return their pids."""
    children = []
    while len(children) < most:
        try:
            pid = os.fork()
        except BlockingIOError:
            break
        if pid == 0:
            signal.pause()
        children.append(pid)
    return children


def end(children: list[int]) -> None:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_names_are_the_kernel_s() -> None:
    """The numbers agree with those that Python's module knows."""
    for name, number in rlimits.NUMBERS.items():
        if hasattr(resource, f"RLIMIT_{name.upper()}"):
            assert number == getattr(resource, f"RLIMIT_{name.upper()}")


def test_limits_are_set_soft_and_hard() -> None:
    """After `apply` the process has just these limits."""

    def child() -> str:
        rlimits.apply([Ulimit("nofile", 50, 60), Ulimit("core", 0, 0)])
        return f"{resource.getrlimit(resource.RLIMIT_NOFILE)} {resource.getrlimit(4)}"

    assert in_child(child) == "(50, 60) (0, 0)"


def test_raising_a_hard_limit_says_which_one_the_user_has() -> None:
    """Nobody but the machine's root raises hard limits; the error names the own one."""

    def child() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
        wanted = [Ulimit("nofile", 50, 51)]
        said = []
        for action in (rlimits.check, rlimits.apply):
            try:
                action(wanted)
            except Unenforceable as err:
                said.append(f"{err.message} | {err.hint}")
        return "\n".join(said)

    first, second = in_child(child).splitlines()
    assert first == second
    assert "nofile=51 is above your own hard limit of 50 | --ulimit nofile=50" in first


@pytest.mark.parametrize("limit", [Ulimit("nofile", 2, 1), Ulimit("files", 1, 1)])
def test_limits_without_a_meaning_are_refused(limit: Ulimit) -> None:
    """A soft limit above the hard one, a name that the kernel does not have."""

    def child() -> str:
        try:
            rlimits.apply([limit])
        except InvalidSpec:
            return "refused"
        return "set"

    assert in_child(child) == "refused"


def test_the_lower_of_two_limits_counts() -> None:
    """`tighten` never raises: a limit of sbx's own holds beside the user's."""
    own = [Ulimit("nproc", 100, 200), Ulimit("core", 0, 0)]

    assert rlimits.tighten(own, [Ulimit("nproc", 50, 50)]) == (
        Ulimit("nproc", 50, 50),
        Ulimit("core", 0, 0),
    )
    assert rlimits.tighten([Ulimit("nproc", 10, 20)], [Ulimit("nproc", 50, 50)])[0].hard == 20
    assert rlimits.tighten([Ulimit("nproc", -1, -1)], [Ulimit("nproc", 50, 50)])[0].hard == 50


def test_nproc_counts_in_its_own_user_namespace() -> None:
    """A container of one uid is held by RLIMIT_NPROC, whatever else the user runs (Linux 5.14)."""

    def child() -> str:
        outside = fork_until_refused(LIMIT)
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER)
        idmap.write_maps("self", (idmap.Range(0, uid, 1),), (idmap.Range(0, gid, 1),))
        rlimits.apply([Ulimit("nproc", LIMIT, LIMIT)])
        inside = fork_until_refused()
        end(inside + outside)
        return str(len(inside))

    assert in_child(child) == str(LIMIT - 1)


def test_nproc_counts_each_uid_by_itself() -> None:
    """Why RLIMIT_NPROC does not hold a container that can change its uid."""
    user = storage_userns.User(os.getuid(), os.getgid(), os.environ.get("USER", ""))
    names = (user.name, str(user.uid))
    if not idmap.read_subids("/etc/subuid", names):
        pytest.skip("needs subordinate ids")

    def child() -> str:
        storage_userns.create(user)
        rlimits.apply([Ulimit("nproc", LIMIT, LIMIT)])
        counts = []
        children = []
        for uid in (1, 2):
            if os.fork() == 0:
                os.setresuid(uid, uid, uid)
                mine = fork_until_refused()
                end(mine)
                os._exit(len(mine))
            counts.append(os.waitstatus_to_exitcode(os.wait()[1]))
        end(children)
        return str(counts)

    try:
        assert in_child(child) == str([LIMIT - 1, LIMIT - 1])
    except SbxError as err:
        pytest.skip(err.message)

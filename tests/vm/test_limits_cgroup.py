"""The life of a container's cgroup: made beside others, frozen, killed, removed, found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sandbox.linux import cgroups
from sandbox.linux.cgroups import Cgroup
from sandbox.linux.cgroups_directory import name_of
from sandbox.linux.processes import exited
from sandbox.spec import Limits
from tests.vm.cell import Cell, hear, limited, new_id, output, tell

pytestmark = pytest.mark.vm
DELEGATED = "/sys/fs/cgroup/user"
SLEEP = "print('in', flush=True); import signal; signal.pause()"


def test_the_delegated_parent_is_found() -> None:
    """We sit in a leaf; its parent is ours and passes every controller on."""
    found = cgroups.discover()

    assert found is not None
    assert found.path == DELEGATED
    assert {"memory", "pids", "cpu", "cpuset", "io"} <= found.controllers


def test_kill_ends_everything() -> None:
    """Also what has left its session and its parent, and what is about to fork."""
    program = """
import os, signal
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            if os.fork():
                os._exit(0)
"""
    with limited(Limits(pids=40)) as cell:
        cell.start(program).wait()
        assert cell.cgroup.populated()

        cell.cgroup.kill()

        assert cell.cgroup.wait_empty()
        assert not cell.cgroup.populated()


def test_kill_works_without_cgroup_kill() -> None:
    """Before Linux 5.14: frozen first, then one by one."""
    with limited(Limits()) as cell:
        process = cell.start(SLEEP)
        assert hear(process) == "in"

        cell.cgroup._kill_each()

        assert process.wait() == -signal.SIGKILL


def test_freezing_stops_and_goes_on() -> None:
    """A frozen process does not answer until it is thawed."""
    program = "import sys\nprint('in', flush=True)\nfor line in sys.stdin: print(line, flush=True)"
    with limited(Limits()) as cell:
        process = cell.start(program)
        assert hear(process) == "in"

        assert cell.cgroup.freeze(True)
        assert "frozen 1" in cell.cgroup.read("cgroup.events")
        tell(process, "x")
        assert cell.cgroup.freeze(False)

        assert hear(process) == "x"


def test_removal_takes_what_was_made_inside_along() -> None:
    """Cgroups that the container itself made, with processes in them."""
    with limited(Limits(pids=20)) as cell:
        inner = Cgroup.create(cell.cgroup.path, "inner")
        deeper = Cgroup.create(inner.path, "deeper")
        process = cell.start(SLEEP, deeper)

        assert cell.cgroup.remove()

        assert process.wait() == -signal.SIGKILL
        assert not os.path.exists(cell.cgroup.path)


def test_removing_twice_is_fine() -> None:
    """Gone is gone."""
    with limited(Limits()) as cell:
        assert cell.cgroup.remove()
        assert cell.cgroup.remove()
        assert not cell.cgroup.populated()
        assert cell.cgroup.oom_kills() == 0


def test_a_new_run_takes_the_place_of_a_dead_one() -> None:
    """A cgroup of the same container, left by a crash, is emptied and made anew."""
    identity = new_id()
    first = cgroups.prepare(identity, Limits(pids=9), environ={}).cgroup
    assert first is not None
    first.close()
    with closing(Cell(first)) as cell:
        leftover = cell.start(SLEEP)

        second = cgroups.prepare(identity, Limits(pids=10), environ={}).cgroup

        assert leftover.wait() == -signal.SIGKILL
    assert second is not None
    assert second.read("pids.max") == "10\n"
    assert second.remove()


def test_many_at_once_do_not_hinder_each_other() -> None:
    """Twenty supervisors enable controllers and make cgroups at the same time."""

    def make(_: int) -> Cgroup:
        cgroup = cgroups.prepare(new_id(), Limits(memory=64 << 20, pids=9), environ={}).cgroup
        assert cgroup is not None
        return cgroup

    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(make, range(20)))
        assert [cgroup.read("pids.max") for cgroup in made] == ["9\n"] * 20
        assert all(pool.map(Cgroup.remove, made))


def test_reconcile_removes_what_nobody_holds() -> None:
    """A dead container's empty cgroup goes; one that is held, or lived in, stays."""
    abandoned, lived_in = (Cgroup.create(DELEGATED, name_of(new_id())) for _ in range(2))
    abandoned.close()
    lived_in.close()
    with closing(Cell(lived_in)) as cell, limited(Limits()) as held:
        process = cell.start(SLEEP)

        assert cgroups.reconcile() == [abandoned.path]

        assert os.path.exists(held.cgroup.path)
        assert lived_in.populated()
        assert cgroups.remove_abandoned(lived_in.path)
        assert process.wait() == -signal.SIGKILL


def test_only_sbx_s_own_cgroups_are_removed() -> None:
    """A path in a state file is not trusted to be a container's cgroup."""
    assert not cgroups.remove_abandoned(f"{DELEGATED}/job")
    assert not cgroups.remove_abandoned("/tmp/sbx-0123456789ab")


def test_the_init_can_be_cloned_into_it() -> None:
    """The directory descriptor is what CLONE_INTO_CGROUP takes: a cgroup's, open for reading."""
    with limited(Limits()) as cell:
        descriptor = cell.cgroup.open()
        try:
            assert os.path.samestat(os.fstat(descriptor), os.stat(cell.cgroup.path))
        finally:
            os.close(descriptor)


def test_joining_a_running_container() -> None:
    """What `exec` does: the process counts and dies with the others."""
    with limited(Limits(pids=9)) as cell:
        process = subprocess.Popen(["sleep", "1000"])
        pidfd = os.pidfd_open(process.pid)
        try:
            cgroups.join(cell.cgroup.path, process.pid)
            assert cell.cgroup.pids() == [process.pid]
            cell.cgroup.kill()
            assert exited(pidfd, 10)
        finally:
            os.close(pidfd)
        assert process.wait() == -signal.SIGKILL


def test_a_container_can_be_the_host() -> None:
    """Within a cgroup namespace, as in docker: the root is vacated, then there are limits."""
    inside = """
import os
from sandbox.linux import cgroups
from sandbox.spec import Limits
print(open("/proc/self/cgroup").read().strip())
prepared = cgroups.prepare("ab" * 32, Limits(memory=32 << 20), environ={})
print(prepared.cgroup.path, prepared.cgroup.read("memory.max").strip())
print(open("/proc/self/cgroup").read().strip())
print(prepared.cgroup.remove())
"""
    # The tmpfs: the kernel does not mount a file system twice on one place.
    mounts = " && ".join(f"mount -t {kind} none /sys/fs/cgroup" for kind in ("tmpfs", "cgroup2"))
    shell = f"{mounts} && exec {sys.executable} -c '{inside}'"
    program = f"""
import os
os.execvp("unshare", ["unshare", "-r", "-m", "-C", "sh", "-c", {shell!r}])
"""
    with limited(Limits(pids=40)) as cell:
        said = output(cell.start(program)).splitlines()

    assert said == [
        "0::/",
        f"/sys/fs/cgroup/sbx-abababababab {32 << 20}",
        "0::/sbx-outside",
        "True",
    ]

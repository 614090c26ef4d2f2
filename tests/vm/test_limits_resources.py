"""memory, processes and processors: each limit against a program that wants more."""

from __future__ import annotations

import os
import signal
import time

import pytest

from sandbox.spec import Limits
from tests.vm.cell import limited, output

pytestmark = pytest.mark.vm
MIB = 1 << 20


def test_a_memory_bomb_is_killed_and_counted() -> None:
    """Beyond memory.max the OOM killer ends the program, and `oom_kills` knows."""
    with limited(Limits(memory=32 * MIB)) as cell:
        bomb = cell.start("x = [bytearray(b'x') * (1 << 20) for _ in range(400)]")

        assert bomb.wait() == -signal.SIGKILL
        assert cell.cgroup.oom_kills() >= 1
        peak = cell.cgroup.stats().memory_peak
        assert peak is None or peak <= 32 * MIB  # memory.peak: Linux 5.19


def test_out_of_memory_ends_the_whole_container() -> None:
    """memory.oom.group: no half of a container goes on without the other."""
    with limited(Limits(memory=32 * MIB)) as cell:
        bystander = cell.start("import signal; signal.pause()")
        cell.start("x = [bytearray(b'x') * (1 << 20) for _ in range(400)]").wait()

        assert bystander.wait() == -signal.SIGKILL
        assert cell.cgroup.wait_empty()


def test_swap_is_not_a_way_around() -> None:
    """--memory-swap equal to --memory means no swap at all."""
    with limited(Limits(memory=32 * MIB, memory_swap=32 * MIB)) as cell:
        assert cell.cgroup.read("memory.swap.max") == "0\n"


def test_a_file_in_memory_counts() -> None:
    """What is written to a tmpfs is charged to the writer: /dev/shm is no way around."""
    name = f"/dev/shm/sbx-test-{os.getpid()}"
    program = f"f = open({name!r}, 'wb')\nfor _ in range(400): f.write(bytes(1 << 20))"
    try:
        with limited(Limits(memory=32 * MIB)) as cell:
            assert cell.start(program).wait() == -signal.SIGKILL
    finally:
        os.unlink(name)


FORK_BOMB = """
import os, signal
children = []
while len(children) < 200:
    try:
        pid = os.fork()
    except BlockingIOError:
        break
    if pid == 0:
        signal.pause()
    children.append(pid)
print(len(children), flush=True)
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""


def test_a_fork_bomb_is_held() -> None:
    """No more than pids.max processes at a time; the kernel answers EAGAIN."""
    with limited(Limits(pids=20)) as cell:
        assert output(cell.start(FORK_BOMB)) == "19\n"


def test_a_busy_loop_gets_its_share() -> None:
    """--cpus 0.25: a second of computing takes about four, counted by the kernel."""
    program = "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    with limited(Limits(cpus=0.25)) as cell:
        began = time.monotonic()
        assert cell.start(program).wait() == 0
        wall = time.monotonic() - began
        stats = cell.cgroup.stats()

        assert stats.cpu_usec is not None
        assert stats.cpu_throttled_usec is not None
        assert stats.cpu_throttled_usec > 0
        # One more period of 25 ms may be used up at either end.
        assert stats.cpu_usec / 1e6 <= 0.25 * wall * 1.1 + 0.05


def test_processors_can_not_be_chosen_from_inside() -> None:
    """--cpuset-cpus: the process runs there and sched_setaffinity(2) elsewhere is refused."""
    program = """
import os
print(sorted(os.sched_getaffinity(0)))
try:
    os.sched_setaffinity(0, {0})
except OSError as err:
    print(err.errno)
"""
    with limited(Limits(cpuset_cpus="1")) as cell:
        assert output(cell.start(program)) == "[1]\n22\n"


def test_every_limit_at_once_is_enforced_by_the_cgroup() -> None:
    """What `prepare` says is enforced is what is in the files."""
    limits = Limits(memory=64 * MIB, cpus=1.5, cpuset_cpus="0-1", pids=50)
    with limited(limits) as cell:
        values = [
            cell.cgroup.read(name).strip()
            for name in ("memory.max", "memory.oom.group", "cpu.max", "cpuset.cpus", "pids.max")
        ]

        assert values == [str(64 * MIB), "1", "150000 100000", "0-1", "50"]

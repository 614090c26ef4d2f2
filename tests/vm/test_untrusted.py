"""The profile `untrusted` against bombs, with a kernel that enforces all of its limits."""

from __future__ import annotations

import json
import time

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.vm

RUN = ("run", "--profile", "untrusted")

# As the classic: every process makes two, none waits, none ends, and all close their streams.
FORK_BOMB = """
os.close(1)
os.close(2)
while True:
    attempt(os.fork)
"""
# Memory that no limit of a process counts: what is shared, and the sum over many processes.
HOARDS = {
    "shared": """
import mmap
held = []
for _ in range(2048):
    held.append(mmap.mmap(-1, 1 << 20))
    held[-1].write(b"x" * (1 << 20))
""",
    "children": """
for _ in range(16):
    if os.fork() == 0:
        held = [bytearray(b"x") * (1 << 20) for _ in range(128)]
        time.sleep(1000)
os.wait()
time.sleep(1000)
""",
}


def test_a_fork_bomb_is_held_and_ends(sbx: Sbx) -> None:
    """The bomb never has more than its 128 processes; other containers start meanwhile; its time
    runs out and not one process is left."""
    bomb = sbx.popen(
        *(*RUN, "--name", "bomb", "--timeout", "20s", "--cpus", "0.5", "host"),
        *(inside.PYTHON, "-c", inside.script(FORK_BOMB)),
    )
    deadline = time.monotonic() + 60
    while not sbx("ps", "--quiet", "--filter", "name=bomb").stdout and time.monotonic() < deadline:
        pass

    other = sbx("run", "--rm", "--network", "none", "host", "echo", "alive", timeout=60)

    assert other.stdout == "alive\n"
    assert bomb.wait(timeout=90) == 124
    sbx("rm", "bomb", check=True)
    assert not sbx.wait_nothing_left(20)


@pytest.mark.parametrize("kind", HOARDS)
def test_a_memory_bomb_is_killed_whole(sbx: Sbx, kind: str) -> None:
    """All memory counts, whatever its kind: above 512 MiB the container is killed as one."""
    code = inside.script(HOARDS[kind])
    result = sbx(*RUN, "--name", "bomb", "host", inside.PYTHON, "-c", code, timeout=120)

    assert result.returncode == 137, result.stderr
    state = json.loads(sbx("inspect", "bomb", check=True).stdout)[0]["State"]
    assert state["OOMKilled"] is True


def test_the_limits_can_not_be_raised_from_inside(sbx: Sbx) -> None:
    """The cgroup is the root of what the container sees, and read-only: it neither leaves it nor
    makes one below it nor writes its limits."""
    code = """
    answer([
        read("/proc/self/cgroup").strip(),
        attempt(write, "/sys/fs/cgroup/memory.max", "max"),
        attempt(write, "/sys/fs/cgroup/pids.max", "max"),
        attempt(write, "/sys/fs/cgroup/cgroup.procs", "0"),
        attempt(os.mkdir, "/sys/fs/cgroup/below"),
        "../" in read("/proc/self/mountinfo").split(" cgroup2 ")[0].splitlines()[-1],
    ])
    """
    limits = ("--rm", "--profile", "untrusted")
    result = sbx("run", *limits, "host", inside.PYTHON, "-c", inside.script(code), check=True)
    own, *writes, above = inside.answer_of(result.stdout, result.stderr)

    assert own == "0::/"
    assert set(writes) <= {"EROFS", "ENOENT", "EACCES", "EPERM"}, writes
    assert above is False


def test_a_loop_takes_its_share_of_the_processors_alone(sbx: Sbx) -> None:
    """--cpus holds for all processes of the container together."""
    code = """
    def used():
        return int(read("/sys/fs/cgroup/cpu.stat").split()[1]) / 1e6
    for _ in range(3):
        if os.fork() == 0:
            while True:
                pass
    before, began = used(), time.monotonic()
    time.sleep(5)
    answer((used() - before) / (time.monotonic() - began))
    attempt(os.kill, -1, 9)
    """
    limits = ("--rm", "--profile", "untrusted", "--cpus", "0.5")
    result = sbx("run", *limits, "host", inside.PYTHON, "-c", inside.script(code))
    share = inside.answer_of(result.stdout, result.stderr)

    # Of a machine with two processors; a period of cpu.max may be counted more, or less.
    assert 0.2 < share < 0.7

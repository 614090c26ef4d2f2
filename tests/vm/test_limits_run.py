"""`sbx run` with limits, from the command line to the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sbx_command import Sbx

pytestmark = pytest.mark.vm

BOMB = "x = [bytearray(b'x') * (1 << 20) for _ in range(400)]"
# Children that lived on would hold standard output open.
FORKS = """
import os, signal
children = []
while len(children) < 200:
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        signal.pause()
    children.append(pid)
for pid in children:
    os.kill(pid, signal.SIGKILL)
print(len(children), flush=True)
"""


def test_a_memory_bomb_is_exit_code_137(sbx: Sbx) -> None:
    """docker's code for SIGKILL; the container is recorded as out of memory."""
    result = sbx("run", "--name", "bomb", "-m", "64m", "host", "python3", "-c", BOMB)

    assert result.returncode == 137, result.stderr
    assert "out of memory" in result.stderr
    state = json.loads(sbx("inspect", "bomb", check=True).stdout)[0]["State"]
    assert state["OOMKilled"] is True
    assert state["ExitCode"] == 137


def test_exec_is_within_the_limits_too(sbx: Sbx) -> None:
    """A process started by `exec` is in the container's cgroup, and can't raise its limits.

    Seen from inside the cgroup is the root, read-only or not there.
    """
    sbx(
        "run",
        "-d",
        "--name",
        "box",
        "--pids-limit",
        "10",
        "host",
        "sleep",
        "1000",
        check=True,
    )

    script = "cat /proc/self/cgroup; echo max > /sys/fs/cgroup/pids.max && echo raised"
    inside = sbx("exec", "box", "sh", "-c", script)
    forks = sbx("exec", "box", "python3", "-c", FORKS)

    assert inside.stdout == "0::/\n"
    assert int(forks.stdout) <= 8


def test_the_processors_are_those_asked_for(sbx: Sbx) -> None:
    """--cpuset-cpus is enforced by the kernel, not by a wish."""
    code = "import os; print(os.sched_getaffinity(0)); os.sched_setaffinity(0, {0})"
    result = sbx("run", "--rm", "--cpuset-cpus", "1", "host", "python3", "-c", code)

    assert result.stdout == "{1}\n"
    assert "Invalid argument" in result.stderr


def test_untrusted_runs_with_all_its_limits(sbx: Sbx) -> None:
    """The profile's memory and processes are enforced by a cgroup where there is one."""
    result = sbx("run", "--rm", "--profile", "untrusted", "host", "python3", "-c", FORKS)

    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 128
    assert sbx.wait_nothing_left(10) == []  # the supervisor cleans up when its client has gone
    assert not [path for path in Path("/sys/fs/cgroup/user").iterdir() if "sbx-" in path.name]

"""`sbx commit` pauses the container where there are cgroups."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from sandbox.linux.cgroups import Cgroup
from tests.archives import Archive
from tests.rootfs import busybox
from tests.sbx_command import Sbx

pytestmark = pytest.mark.vm

# Writes the same line to two files, which differ whenever it is seen in between.
TWINS = "i=0; while :; do i=$((i+1)); echo $i > /one; echo $i > /two; done"


@pytest.fixture
def box(sbx: Sbx, tmp_path: Path) -> str:
    """A small image: making hundreds of links takes its time here."""
    program = busybox()
    assert program is not None
    archive = Archive().directory("etc").file("bin/busybox", Path(program).read_bytes(), mode=0o755)
    for name in ("sh", "cat", "dd", "sleep", "true"):
        archive.symlink(f"bin/{name}", "busybox")
    (tmp_path / "box.tar").write_bytes(archive.bytes())
    sbx("import", tmp_path / "box.tar", "box", check=True)
    return "box"


def test_a_paused_container_is_committed_at_one_moment(sbx: Sbx, box: str) -> None:
    """No file of the image is later than another by more than the one step that was cut."""
    sbx("run", "-d", "--name", "work", box, "sh", "-c", TWINS, check=True)

    done = sbx("commit", "work", "my", check=True)

    assert "can't be paused" not in done.stderr
    texts = sbx("run", "--rm", "my", "cat", "/one", "/two", check=True).stdout.split()
    numbers = [int(text) for text in texts]
    assert len(numbers) < 2 or 0 <= numbers[0] - numbers[1] <= 1
    [found] = json.loads(sbx("inspect", "work", check=True).stdout)
    assert found["State"]["Status"] == "running"
    assert sbx("exec", "work", "true").returncode == 0


def test_a_commit_that_is_killed_leaves_the_container_running(sbx: Sbx, box: str) -> None:
    """kill -9 of a commit thaws what it had frozen."""
    script = "dd if=/dev/zero of=/big bs=1M count=64 2>&1; echo ready; exec sleep 1000"
    sbx("run", "-d", "--name", "work", box, "sh", "-c", script, check=True)
    with sbx.popen("logs", "-f", "work", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        while b"ready" not in logs.stdout.readline():
            pass
        logs.kill()
    with sbx.popen("commit", "work", "my", env={"SBX_LAUNCHER": "off"}) as commit:
        os.kill(commit.pid, signal.SIGKILL)

    assert sbx("exec", "work", "true", timeout=20).returncode == 0
    status = next((sbx.directory / "data/sbx/containers").glob("*/status.json"))
    cgroup = Cgroup(json.loads(status.read_text())["cgroup"])
    assert cgroup.read("cgroup.freeze").strip() == "0"

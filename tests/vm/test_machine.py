"""What the test machine promises to the tests that run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

DELEGATED = Path("/sys/fs/cgroup/user")


def test_the_user_can_limit_memory_in_a_cgroup_of_his_own() -> None:
    """All controllers are delegated: a process over its memory.max is killed, and counted."""
    cgroup = DELEGATED / f"memory-{os.getpid()}"
    cgroup.mkdir()
    try:
        (cgroup / "memory.max").write_text(str(16 << 20))
        enter = f"echo $$ > {cgroup}/cgroup.procs && exec "
        hog = f"{enter} {sys.executable} -c 'bytearray(b\"x\") * (64 << 20)'"

        status = subprocess.run(["sh", "-c", hog], check=False, capture_output=True).returncode

        assert status == -9
        assert "\noom_kill 1\n" in (cgroup / "memory.events").read_text()
    finally:
        cgroup.rmdir()


def test_the_tests_run_as_an_ordinary_user_with_a_clean_runtime_directory() -> None:
    """The job is not root, and has what a login gives."""
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])

    assert os.geteuid() != 0
    assert runtime.stat().st_uid == os.geteuid()
    assert runtime.stat().st_mode & 0o777 == 0o700


def test_the_kernel_has_landlock() -> None:
    """Landlock is on in the machine, so that its tests need not skip there."""
    assert "landlock" in Path("/sys/kernel/security/lsm").read_text().split(",")


def test_fuse_and_tun_are_usable() -> None:
    """The devices are there, with the mode that udev gives them elsewhere."""
    for device in ("/dev/fuse", "/dev/net/tun"):
        assert os.access(device, os.R_OK | os.W_OK), device

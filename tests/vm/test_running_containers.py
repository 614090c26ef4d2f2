"""pause, update and stats of containers with a cgroup of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sbx_command import Sbx

pytestmark = pytest.mark.vm


def test_update_and_pause_act_on_the_cgroup(sbx: Sbx) -> None:
    """New limits are the kernel's at once, and the freezer holds all processes."""
    limits = ("--memory", "256m", "--pids-limit", "50", "--network", "none")
    sbx("run", "-d", "--name", "job", *limits, "host", "sleep", "1000", check=True)
    cgroup = Path(sbx("inspect", "-f", "{{.Sbx.Cgroup}}", "job", check=True).stdout.strip())

    sbx("update", "--memory", "128m", "--pids-limit", "20", "job", check=True)
    sbx("pause", "job", check=True)

    assert (cgroup / "memory.max").read_text().strip() == str(128 << 20)
    assert (cgroup / "pids.max").read_text().strip() == "20"
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()
    (shown,) = json.loads(sbx("inspect", "job", check=True).stdout)
    assert shown["HostConfig"]["Memory"] == 128 << 20
    assert "memory.max" in shown["Sbx"]["Enforcement"]["Enforced"]["memory"]
    form = "{{.MemUsage}} {{.PIDs}}"
    used = sbx("stats", "--no-stream", "--format", form, "job", check=True).stdout
    assert "/ 128MiB" in used
    sbx("unpause", "job", check=True)
    assert "frozen 0" in (cgroup / "cgroup.events").read_text()

"""The launcher's worker: whom it serves next gets nothing of whom it served before."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from tests.cli.test_spare_containers import RUN, have_spare, taken
from tests.sbx_command import PATIENCE, Sbx


@pytest.fixture
def image(sbx: Sbx, busybox_tar: Path) -> str:
    sbx("import", busybox_tar, "box", check=True)
    sbx(*RUN, "box", "true", check=True)
    return "box"


def worker(sbx: Sbx) -> int:
    """The process that waits for the launcher's next client, once it is the only one at work."""
    deadline = time.monotonic() + 20 * PATIENCE
    while len(found := _workers(sbx)) != 1:
        assert time.monotonic() < deadline, f"workers: {found}"
        sbx.mark.wait_gone(0.05)
    return found[0]


def _workers(sbx: Sbx) -> list[int]:
    """The launcher's children but for spares, which have names of their own."""
    parents = {}
    for process in sbx.mark.processes():
        with contextlib.suppress(OSError):
            name, _, rest = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")
            if "sandbox.launcher" in process.command and "(sbx-" not in name:
                parents[process.pid] = int(rest.split()[1])
    return [pid for pid, parent in parents.items() if parent in parents]


def test_it_serves_again(sbx: Sbx, image: str) -> None:
    """One whose client went to a spare is there for the next client."""
    have_spare(sbx, *RUN, image, "true")
    with taken(sbx):
        sbx(*RUN, image, "true", check=True)
    before = worker(sbx)
    with taken(sbx):
        sbx(*RUN, image, "true", check=True)

    assert worker(sbx) == before


def test_it_keeps_no_directory_of_its_client(sbx: Sbx, image: str, tmp_path: Path) -> None:
    """A file system that somebody used sbx in can be unmounted."""
    have_spare(sbx, *RUN, image, "true")
    with taken(sbx):
        sbx(*RUN, image, "true", check=True, cwd=tmp_path)

    assert os.readlink(f"/proc/{worker(sbx)}/cwd") == "/"


def test_the_next_client_has_its_own_limits(sbx: Sbx, image: str) -> None:
    """Limits that can't be raised again are not those of who comes next."""
    script = (*RUN, image, "sh", "-c", "ulimit -Hn")
    usual = sbx(*script, check=True).stdout
    low = ["prlimit", "--nofile=100:100"]
    lowered = Sbx(sbx.directory, sbx.environ, sbx.mark, [*low, *sbx.program])
    have_spare(lowered, *RUN, image, "true")
    with taken(sbx):
        assert lowered(*script, check=True).stdout == "100\n"

    assert sbx(*script, check=True).stdout == usual

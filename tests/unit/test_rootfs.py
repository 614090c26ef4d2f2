"""The root file systems that other tests run."""

from __future__ import annotations

import tarfile
from pathlib import Path


def test_the_busybox_tar_holds_a_shell(busybox_tar: Path) -> None:
    """The small root file system has busybox as /bin/sh, owned by root."""
    with tarfile.open(busybox_tar) as tar:
        shell = tar.getmember("bin/sh")
        program = tar.getmember("bin/busybox")

    assert shell.linkname == "busybox"
    assert (program.uid, program.gid, program.mode) == (0, 0, 0o755)

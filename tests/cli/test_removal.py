"""Containers that go, go whole, whatever is in them and whoever is killed meanwhile."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tests.sbx_command import Sbx

# Deeper than a recursion goes, and than there are descriptors for a process.
_NEST = """
import os
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
"""


def _directories(sbx: Sbx) -> list[str]:
    """What is left of containers on disk; a lock and the names' directory always are."""
    entries = os.listdir(sbx.directory / "data" / "sbx" / "containers")
    return [entry for entry in entries if entry not in (".lock", "names")]


def test_a_deeply_nested_tree_is_removed(sbx: Sbx) -> None:
    """A program can make a tree that nothing recursive can follow; it goes with its container."""
    sbx("run", "--name", "deep", "-w", "/tmp", "host", "python3", "-c", _NEST, check=True)

    sbx("rm", "deep", check=True)

    assert _directories(sbx) == []


def test_a_removal_that_was_cut_off_is_completed(sbx: Sbx) -> None:
    """Of a container whose removal was killed the next command deletes the rest."""
    sbx("run", "--name", "kept", "host", "true", check=True)
    (container,) = _containers(sbx)
    container.rename(container.with_name(f".trash-{container.name}"))

    sbx("ps", check=True)

    assert _directories(sbx) == []


def test_what_somebody_is_removing_is_left_to_them(sbx: Sbx) -> None:
    """No command waits for the removal of a large container, or takes part in it."""
    sbx("run", "--name", "kept", "host", "true", check=True)
    (container,) = _containers(sbx)
    trash = container.rename(container.with_name(f".trash-{container.name}"))
    descriptor = os.open(trash, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        sbx("ps", check=True)
        assert (trash / "spec.json").exists()
    finally:
        os.close(descriptor)


def _containers(sbx: Sbx) -> list[Path]:
    root = sbx.directory / "data" / "sbx" / "containers"
    return [root / entry for entry in os.listdir(root) if len(entry) == 64]

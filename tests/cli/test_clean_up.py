"""The fixture ``sbx`` itself: it cleans up, and tells when there is something that it must not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.sbx_command import Sbx


def test_containers_and_launcher_are_ended(sbx_cache: Path) -> None:
    """A test may leave containers running; they and the launcher are gone after it."""
    with Sbx.in_private_directories(cache=sbx_cache) as sbx:
        sbx("run", "--detach", "host", "sleep", "1000", check=True)
        running = sbx.mark.processes()

    assert running
    assert sbx.mark.processes() == []
    assert not sbx.directory.exists()


def test_a_process_left_behind_is_a_failure(sbx_cache: Path) -> None:
    """What sbx would lose track of fails the test that it happened in, and is killed."""
    with (
        pytest.raises(AssertionError, match=r"left behind: .*sleep 1000"),
        Sbx.in_private_directories(cache=sbx_cache, grace=0.5) as sbx,
        sbx.mark.inherited(),
    ):
        subprocess.run(["setsid", "--fork", "sleep", "1000"], check=True)

    assert sbx.mark.processes() == []


def test_state_is_private_to_the_test(sbx: Sbx) -> None:
    """A test sees no containers but its own."""
    assert sbx.containers() == []

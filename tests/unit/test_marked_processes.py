"""The tests' own means to find processes that were left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.marked_processes import Mark


@pytest.fixture
def mark() -> Iterator[Mark]:
    mark = Mark()
    yield mark
    mark.kill()


def test_a_daemon_with_an_empty_environment_is_found(mark: Mark) -> None:
    """A process that left session, parent and environment is still found, and can be ended."""
    with mark.inherited():
        subprocess.run(
            ["sh", "-c", "exec env -i setsid --fork sleep 1000"], check=True, close_fds=True
        )

    (found,) = mark.processes()
    # setsid may be just about to become sleep
    assert found.command.endswith("sleep 1000")
    mark.kill()
    assert mark.processes() == []


def test_a_process_of_a_user_namespace_is_found(mark: Mark) -> None:
    """Namespaces don't hide a process that the test started."""
    command = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "sleep", "1000"]
    with mark.inherited():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    assert process.pid in {found.pid for found in mark.processes()}
    mark.kill()
    process.wait()


def test_other_processes_are_not_found(mark: Mark) -> None:
    """What was started without the mark, this process included, does not count."""
    with subprocess.Popen(["sleep", "1000"]) as unmarked:
        with mark.inherited():
            pass

        assert mark.processes() == []
        assert os.getpid() not in {process.pid for process in mark.processes()}
        unmarked.kill()

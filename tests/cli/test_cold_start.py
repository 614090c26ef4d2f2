"""Without a launcher two processes start a container; either may be killed, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sbx_command import PATIENCE, Sbx

COLD = {"SBX_LAUNCHER": "off"}


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Read as --env-file it stops the first process before it knows what is to be run."""
    path = tmp_path / "variables"
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def starting(sbx: Sbx, fifo: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A run that waits for *fifo*: its client, and the pids of the first and second process."""
    arguments = ("run", "--rm", "--network=none", "--env-file", fifo, "host", "sh", "-c", "echo $A")
    pipe = subprocess.PIPE
    with sbx.popen(*arguments, env=COLD, stdout=pipe, stderr=pipe) as client:
        first = _child(sbx, client.pid)
        yield client, first, _child(sbx, first)


def _child(sbx: Sbx, parent: int) -> int:
    deadline = time.monotonic() + 20 * PATIENCE
    while time.monotonic() < deadline:
        for process in sbx.mark.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/stat").read_text()
                if int(status.rpartition(")")[2].split()[1]) == parent:
                    return process.pid
        sbx.mark.wait_gone(0.02)
    raise AssertionError(f"{parent} has no child")


def _wait_until_caught(sbx: Sbx, pid: int, number: int) -> None:
    """Until then the signal would end the client alone, which has nobody to tell yet."""
    deadline = time.monotonic() + 20 * PATIENCE
    while True:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
        if caught >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline
        sbx.mark.wait_gone(0.02)


def test_the_second_process_runs_it(sbx: Sbx, fifo: Path) -> None:
    """The first one's end, once it has handed over, is not the container's."""
    with starting(sbx, fifo) as (client, _, _):
        fifo.write_text("A=hello\n")
        assert client.communicate(timeout=60 * PATIENCE)[0] == b"hello\n"
        assert client.returncode == 0


def test_without_the_second_process_the_first_one_runs_it(sbx: Sbx, fifo: Path) -> None:
    """What was to save time is not needed."""
    with starting(sbx, fifo) as (client, _, second):
        os.kill(second, signal.SIGKILL)
        fifo.write_text("A=hello\n")
        assert client.communicate(timeout=60 * PATIENCE)[0] == b"hello\n"
        assert client.returncode == 0


def test_without_the_first_process_the_second_one_ends(sbx: Sbx, fifo: Path) -> None:
    """Nobody will say what is to be run."""
    with starting(sbx, fifo) as (client, first, _):
        os.kill(first, signal.SIGKILL)
        _, stderr = client.communicate(timeout=60 * PATIENCE)
        assert client.returncode == 125
        assert stderr == b"sbx: the process that carried out the command was ended\n"

    assert sbx.wait_nothing_left(10) == []


def test_an_interrupt_ends_both(sbx: Sbx, fifo: Path) -> None:
    """Ctrl-C before there is a container is the end of it all."""
    with starting(sbx, fifo) as (client, _, _):
        _wait_until_caught(sbx, client.pid, signal.SIGINT)
        client.send_signal(signal.SIGINT)
        said = client.communicate(timeout=60 * PATIENCE)
        assert client.returncode == 130, said

    assert sbx.wait_nothing_left(10) == []


def test_what_is_wrong_is_said_once(sbx: Sbx) -> None:
    """An error of either process reaches the user, with docker's exit code."""
    run = ("run", "--name", "taken", "--network=none")
    sbx(*run, "host", "true", env=COLD, check=True)

    conflict = sbx(*run, "host", "true", env=COLD)
    unknown = sbx(*run[:1], "nothing-of-that-name:1", "true", env=COLD)
    missing = sbx("run", "--rm", "--network=none", "host", "nothing-of-that-name", env=COLD)

    assert (conflict.returncode, conflict.stderr.count("is in use")) == (125, 1)
    assert unknown.returncode == 125
    assert (missing.returncode, missing.stderr.count("not found")) == (127, 1)

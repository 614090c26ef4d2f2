"""A cgroup made as for a container, and programs in it that start when they are inside."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sandbox.linux import cgroups
from sandbox.linux.cgroups import Cgroup
from sandbox.spec import Limits

ROOT = Path(__file__).resolve().parents[2]
# Reads a line first: it is moved into the cgroup before it does anything.
_GATE = "import sys; sys.stdin.readline(); exec(sys.argv[1])"


def new_id() -> str:
    """The id of a container."""
    return secrets.token_hex(32)


class Cell:
    """A cgroup and the programs that a test starts in it."""

    def __init__(self, cgroup: Cgroup) -> None:
        self.cgroup = cgroup
        self._programs: list[subprocess.Popen[str]] = []

    def start(self, program: str, cgroup: Cgroup | None = None) -> subprocess.Popen[str]:
        """Run *program* (Python) in the cell's cgroup, or in *cgroup* below it."""
        process = subprocess.Popen(
            [sys.executable, "-c", _GATE, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        )
        self._programs.append(process)
        (cgroup or self.cgroup).add(process.pid)
        tell(process, "")
        return process

    def close(self) -> None:
        for process in self._programs:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@contextlib.contextmanager
def limited(limits: Limits) -> Iterator[Cell]:
    """A cgroup with *limits*, removed at the end; that it can be is part of every test."""
    prepared = cgroups.prepare(new_id(), limits, environ={})
    assert prepared.cgroup is not None
    with contextlib.closing(Cell(prepared.cgroup)) as cell:
        try:
            yield cell
        finally:
            assert cell.cgroup.remove()
            assert not os.path.exists(cell.cgroup.path)


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Give the program a line to read."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Wait for a line of the program's."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def output(process: subprocess.Popen[str]) -> str:
    """Wait for the program's end; return what it printed."""
    assert process.stdout is not None
    said = process.stdout.read()
    process.wait()
    return said

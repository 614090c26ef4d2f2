"""Holding a container still for a moment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.linux.cgroups import Cgroup
from sandbox.state import Container


@contextmanager
def paused(container: Container) -> Iterator[None]:
    """Freeze all processes of *container*, if it runs, until the end of the block.

    Where that is not possible, it is said, and the container goes on. A child thaws it, also when
    this process is killed meanwhile.
    """
    if not container.running or container.status.paused:
        yield
        return
    cgroup = Cgroup(container.status.cgroup) if container.status.cgroup else None
    if cgroup is None:
        _say(container, "it has no cgroup (sbx doctor)")
        yield
        return
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(writing)
        _be_thawer(cgroup, reading)
    os.close(reading)
    try:
        try:
            if not cgroup.freeze(True):
                _say(container, "some of its processes do not stop")
        except OSError as err:
            _say(container, f"{cgroup.path}: {err.strerror}")
        yield
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def _be_thawer(cgroup: Cgroup, reading: int) -> None:
    """Wait for the end of the process at the other end of the pipe, then let the container go."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(reading, 1)
        cgroup.freeze(False)
    finally:
        os._exit(0)


def _say(container: Container, why: str) -> None:
    print(
        f"sbx: warning: container {container.spec.name} can't be paused: {why}; "
        "what it changes meanwhile may be in the image or not",
        file=sys.stderr,
    )

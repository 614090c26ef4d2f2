"""Starting a container from a Python program: `sandbox.run` beside bubblewrap by subprocess."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from bench.ground import IMAGE, Ground
from bench.pairs import Contender, Table, by_turns

NAME = "from-python"


def measure(ground: Ground, rounds: int) -> list[Table]:
    os.environ.update(ground.environ)
    rows = by_turns(list(_contenders(ground)), rounds, warm_up=3, pause=0.3)
    return [Table("run `true` from Python, no network", "ms", tuple(rows))]


def _contenders(ground: Ground) -> Iterator[Contender]:
    import sandbox

    if "bwrap" in ground.available:
        command = ground.bwrap("true")
        yield Contender("bubblewrap", lambda: _subprocess(command))
    for name, profile in (
        ("sandbox.run", "untrusted"),
        ("sandbox.run, profile default", "default"),
    ):
        yield Contender(name, lambda profile=profile: _api(sandbox, profile))  # type: ignore[misc]


def _subprocess(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _api(sandbox: object, profile: str) -> None:
    run = sandbox.run  # type: ignore[attr-defined]
    done = run(["true"], image=IMAGE, profile=profile, network="none", cgroups="best-effort")
    if done.returncode:
        raise RuntimeError(f"sandbox.run: {done.returncode} {done.stderr}")

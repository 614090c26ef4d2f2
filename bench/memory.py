"""Memory of an idle container: the proportional set size of all its processes.

proc(5), smaps_rollup. Pages that several containers share are divided among them, so the more there
are, the less each has.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.ground import IMAGE, Ground
from bench.pairs import Row, Table

NAME = "memory"
MANY = 100


@dataclass(frozen=True, slots=True)
class Footprint:
    megabytes: float
    processes: int
    hidden: int  # processes whose smaps this user may not read: their anonymous memory counts


def measure(ground: Ground, rounds: int) -> list[Table]:
    """One container, then many."""
    notes: list[str] = []
    rows = []
    many = MANY if rounds >= 8 else 10
    for network in ("none", "private"):
        for count in (1, many):
            rows.append(_sbx(ground, network, count, notes))
    if "podman" in ground.available:
        rows += [
            _podman(ground, network, count, notes) for network in ("none", "") for count in (1, 10)
        ]
    return [Table("memory of an idle container (PSS, MB each)", "MB", tuple(rows), tuple(notes))]


def _sbx(ground: Ground, network: str, count: int, notes: list[str]) -> Row:
    options = ("-d", "--network", network, "--stop-signal", "KILL")

    def start() -> str:
        return ground.run(ground.sbx("run", *options, IMAGE, "sleep", "86400")).strip()

    def remove(ids: list[str]) -> None:
        ground.run(ground.sbx("rm", "-f", *ids))

    return _row(f"sbx, network {network}, {count}", start, remove, count, ground.path, notes)


def _podman(ground: Ground, network: str, count: int, notes: list[str]) -> Row:
    options = ("-d", *(("--network", network) if network else ()))

    def start() -> str:
        return ground.run(ground.podman("run", *options, IMAGE, "sleep", "86400")).strip()

    def remove(ids: list[str]) -> None:
        ground.run(ground.podman("rm", "--force", "--time", "0", *ids))

    return _row(
        f"podman, network {network or 'default'}, {count}", start, remove, count, ground.path, notes
    )


def _row(
    name: str,
    start: Callable[[], str],
    remove: Callable[[list[str]], None],
    count: int,
    place: Path,
    notes: list[str],
) -> Row:
    before = processes_of(place)
    ids = []
    try:
        ids = [start() for _ in range(count)]
        found = footprint(processes_of(place) - before)
    finally:
        if ids:
            remove(ids)
    notes.append(
        f"{name}: {found.processes / count:.1f} processes each"
        + (
            f", {found.hidden / count:.1f} of them by their anonymous memory"
            if found.hidden
            else ""
        )
    )
    return Row(name, (found.megabytes / count,))


def processes_of(place: Path) -> set[int]:
    """Return the processes that have *place* in their environment or command line, and all
    that descend from them: supervisors, monitors, network programs, what runs in containers."""
    parents = {}
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                pid = int(entry.name)
                parents[pid] = int(_status(pid)["PPid"])
                if _names(entry, str(place).encode()):
                    found.add(pid)
    found -= {os.getpid(), os.getppid()}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def _names(entry: Path, text: bytes) -> bool:
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            if text in (entry / name).read_bytes():
                return True
    return False


def footprint(pids: set[int]) -> Footprint:
    total, hidden, processes = 0.0, 0, 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += _kilobytes(text, "Pss:")
        except PermissionError:
            hidden += 1
            with contextlib.suppress(OSError, KeyError):
                total += float(_status(pid)["RssAnon"].split()[0])
        except (OSError, StopIteration):
            continue  # it has ended
        processes += 1
    return Footprint(total / 1000, processes, hidden)


def _kilobytes(text: str, key: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(key)).split()[1])


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)

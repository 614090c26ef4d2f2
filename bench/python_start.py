"""A Python start with imports: many files are looked up, opened and read."""

from __future__ import annotations

import json
import subprocess

from bench import python_image
from bench.ground import Ground
from bench.pairs import Row, Table

NAME = "python-start"
PYTHON = str(python_image.PYTHON)
IMPORTS = (
    "import asyncio, email.message, http.client, json, logging, sqlite3, unittest, xml.dom.minidom"
)
STARTS = 8  # in one container: the first is cold

# Runs inside the container and prints the milliseconds of each start.
SCRIPT = f"""
import json, subprocess, time
times = []
for _ in range({STARTS}):
    begin = time.perf_counter()
    subprocess.run([{PYTHON!r}, "-S", "-c", {IMPORTS!r}], check=True)
    times.append((time.perf_counter() - begin) * 1000)
print(json.dumps(times))
"""


def measure(ground: Ground, rounds: int) -> list[Table]:
    """In turn: natively, on the kernel's overlay, on the FUSE overlay, there with `host` too."""
    python_image.make(ground)
    places = {
        "native": [PYTHON, "-c", SCRIPT],
        "kernel overlay": _inside(ground, "kernel", python_image.IMAGE),
        "fuse overlay": _inside(ground, "fuse", python_image.IMAGE),
        "fuse overlay, host": _inside(ground, "fuse", "host"),
    }
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    notes = []
    for turn in range(max(3, rounds // 4)):
        for name, argv in places.items():
            try:
                first, *rest = json.loads(ground.run(argv))
            except (RuntimeError, subprocess.TimeoutExpired, ValueError) as err:
                if turn == 0:
                    notes.append(f"{name} does not run here: {str(err).splitlines()[-1]}")
                continue
            cold.setdefault(name, []).append(first)
            warm.setdefault(name, []).extend(rest)
    return [
        Table(f"a Python start with imports, {title}", "ms", _rows(samples), tuple(notes))
        for title, samples in (("first in its container", cold), ("the next ones", warm))
    ]


def _inside(ground: Ground, overlay: str, image: str) -> list[str]:
    options = ("--rm", "--network", "none", "--overlay", overlay)
    return ground.sbx("run", *options, image, PYTHON, "-c", SCRIPT)


def _rows(samples: dict[str, list[float]]) -> tuple[Row, ...]:
    return tuple(Row(name, tuple(values)) for name, values in samples.items())

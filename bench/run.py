"""`python -m bench.run`: sbx beside podman, crun and bubblewrap; medians and ratios.

Run it as an ordinary user on a machine that does nothing else. Ratios are what can be compared
between machines: everything is timed in turn, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from bench import from_python, memory, python_start, startup, throughput
from bench.ground import Ground, ground
from bench.pairs import Table

PARTS: dict[str, Callable[[Ground, int], list[Table]]] = {
    part.NAME: part.measure for part in (startup, from_python, throughput, python_start, memory)
}


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() == 0:
        print("bench: run this as an ordinary user (make bench does)", file=sys.stderr)
        return 1
    tables: list[Table] = []
    with ground() as place:
        print("\n".join([_machine(), *place.notes, ""]), flush=True)
        for name in arguments.part or PARTS:
            for table in PARTS[name](place, arguments.rounds):
                print(table.to_text(), end="\n\n", flush=True)
                tables.append(table)
        notes = [_machine(), *place.notes]
    if arguments.json:
        document = {"notes": notes, "tables": [table.to_json() for table in tables]}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all when none is given")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each (default 20)")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    return parser


def _machine() -> str:
    processors = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"Linux {platform.release()}, {processors} processors, load {load:.1f} at the beginning"


if __name__ == "__main__":
    sys.exit(main())

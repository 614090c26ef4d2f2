"""Containers per second, one after the other and four at a time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.ground import IMAGE, Ground
from bench.pairs import Contender, Table, by_turns

NAME = "throughput"
CONTAINERS = 12  # in one sample


def measure(ground: Ground, rounds: int) -> list[Table]:
    return [
        Table(
            f"containers per second, {at_once} at a time, no network",
            "1/s",
            tuple(by_turns(list(_contenders(ground, at_once)), max(3, rounds // 4))),
        )
        for at_once in (1, 4)
    ]


def _contenders(ground: Ground, at_once: int) -> Iterator[Contender]:
    none = ("--rm", "--network", "none", IMAGE, "true")
    numbers = itertools.count()
    commands: dict[str, Callable[[], object]] = {
        "podman": lambda: ground.run(ground.podman("run", *none)),
        "sbx": lambda: ground.run(ground.sbx("run", *none)),
        "crun": lambda: ground.run(ground.crun(f"many-{at_once}-{next(numbers)}")),
        "bwrap": lambda: ground.run(ground.bwrap("true")),
    }
    for name, command in commands.items():
        if name in ground.available:
            yield Contender(name, _per_second(command, at_once))


def _per_second(command: Callable[[], object], at_once: int) -> Callable[[], float]:
    def once() -> float:
        begin = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            for future in [pool.submit(command) for _ in range(CONTAINERS)]:
                future.result()
        return CONTAINERS / (time.perf_counter() - begin)

    return once

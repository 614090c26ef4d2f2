"""`run --rm IMAGE true`, from the command's start to its end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bench.ground import IMAGE, Ground
from bench.pairs import Contender, Row, Table, by_turns

NAME = "startup"
_PAUSE = 0.3


def measure(ground: Ground, rounds: int) -> list[Table]:
    """With each one's own default network, and without a network."""
    return [
        Table(
            "run --rm IMAGE true, default network",
            "ms",
            _timed(_with_network(ground), rounds),
        ),
        Table(
            "run --rm --network none IMAGE true",
            "ms",
            _timed(_without_network(ground), rounds),
        ),
    ]


def _timed(contenders: Iterator[Contender], rounds: int) -> tuple[Row, ...]:
    return tuple(by_turns(list(contenders), rounds, warm_up=3, pause=_PAUSE))


def _with_network(ground: Ground) -> Iterator[Contender]:
    if "podman" in ground.available:
        yield ground.contender("podman", ground.podman("run", "--rm", IMAGE, "true"))
    yield ground.contender("sbx hot", ground.sbx("run", "--rm", IMAGE, "true"))
    yield ground.contender(
        "sbx hot, none ready", ground.sbx("run", "--rm", IMAGE, "true"), SBX_SPARE="off"
    )
    yield ground.contender("sbx cold", ground.sbx("run", "--rm", IMAGE, "true"), SBX_LAUNCHER="off")
    yield ground.contender("sbx hot, host", ground.sbx("run", "--rm", "host", "true"))


def _without_network(ground: Ground) -> Iterator[Contender]:
    none = ("--rm", "--network", "none")
    if "podman" in ground.available:
        yield ground.contender("podman", ground.podman("run", *none, IMAGE, "true"))
    yield ground.contender("sbx hot", ground.sbx("run", *none, IMAGE, "true"))
    yield ground.contender(
        "sbx hot, none ready", ground.sbx("run", *none, IMAGE, "true"), SBX_SPARE="off"
    )
    yield ground.contender("sbx cold", ground.sbx("run", *none, IMAGE, "true"), SBX_LAUNCHER="off")
    yield ground.contender(
        "sbx hot, kernel overlay", ground.sbx("run", *none, "--overlay", "kernel", IMAGE, "true")
    )
    if "crun" in ground.available:
        yield _crun(ground)
    if "bwrap" in ground.available:
        yield ground.contender("bubblewrap", ground.bwrap("true"))


def _crun(ground: Ground) -> Contender:
    numbers = itertools.count()

    def once() -> None:
        ground.run(ground.crun(f"bench-{next(numbers)}"))

    return Contender("crun", once)

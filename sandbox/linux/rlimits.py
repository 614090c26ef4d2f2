"""Resource limits of a process (getrlimit(2)): docker's `--ulimit` names and how they are set."""

from __future__ import annotations

import resource
from collections.abc import Iterable

from sandbox.errors import InvalidSpec, Unenforceable
from sandbox.spec import Ulimit

# Numbers from include/uapi/asm-generic/resource.h: Python's module lacks a few. The same on all
# machines sbx runs on (x86-64, arm64, riscv64).
NUMBERS = {
    "cpu": 0,  # seconds
    "fsize": 1,  # bytes
    "data": 2,  # bytes
    "stack": 3,  # bytes
    "core": 4,  # bytes
    "rss": 5,  # no effect since Linux 2.4.30
    "nproc": 6,  # processes of one uid in one user namespace
    "nofile": 7,  # highest descriptor + 1
    "memlock": 8,  # bytes
    "as": 9,  # bytes
    "locks": 10,  # no effect since Linux 2.4
    "sigpending": 11,  # signals
    "msgqueue": 12,  # bytes
    "nice": 13,  # 20 - nice value
    "rtprio": 14,  # priority
    "rttime": 15,  # microseconds
}
UNLIMITED = -1
# Set where --ulimit does not say otherwise: core dumps of a sandbox help nobody and fill disks.
DEFAULTS = (Ulimit("core", 0, 0),)


def number_of(name: str) -> int:
    """Return the number of the limit *name* ("nofile"). Raises InvalidSpec."""
    try:
        return NUMBERS[name]
    except KeyError:
        raise InvalidSpec(f"no such ulimit: {name}", hint=", ".join(NUMBERS)) from None


def merge(*sources: Iterable[Ulimit]) -> tuple[Ulimit, ...]:
    """Return one limit per name, later sources winning."""
    merged = {limit.name: limit for source in sources for limit in source}
    return tuple(merged.values())


def tighten(ulimits: Iterable[Ulimit], bounds: Iterable[Ulimit]) -> tuple[Ulimit, ...]:
    """Return *ulimits* with none above the one of the same name in *bounds*."""
    tightened = {limit.name: limit for limit in ulimits}
    for bound in bounds:
        limit = tightened.get(bound.name, bound)
        hard = _least(limit.hard, bound.hard)
        tightened[bound.name] = Ulimit(
            bound.name, _least(_least(limit.soft, bound.soft), hard), hard
        )
    return tuple(tightened.values())


def _least(one: int, other: int) -> int:
    if UNLIMITED in (one, other):
        return max(one, other)
    return min(one, other)


def check(ulimits: Iterable[Ulimit]) -> None:
    """Raise what `apply` would raise, without changing anything.

    Raising a hard limit takes CAP_SYS_RESOURCE in the initial user namespace, which a rootless
    sandbox never has.
    """
    for limit in ulimits:
        _, hard = resource.getrlimit(number_of(limit.name))
        if hard != UNLIMITED and _least(limit.hard, hard) != limit.hard:
            raise _above(limit, hard)


def apply(ulimits: Iterable[Ulimit]) -> None:
    """Set the limits of this process and its children. Raises InvalidSpec, Unenforceable."""
    for limit in ulimits:
        number = number_of(limit.name)
        try:
            resource.setrlimit(number, (limit.soft, limit.hard))
        except (OSError, ValueError) as err:
            _, hard = resource.getrlimit(number)
            if hard != UNLIMITED and _least(limit.hard, hard) != limit.hard:
                raise _above(limit, hard) from err
            raise InvalidSpec(
                f"--ulimit {limit.name}={_show(limit.soft)}:{_show(limit.hard)} is invalid",
                detail=str(err),
            ) from err


def _above(limit: Ulimit, hard: int) -> Unenforceable:
    return Unenforceable(
        f"--ulimit {limit.name}={_show(limit.hard)} is above your own hard limit of {_show(hard)}",
        hint=f"--ulimit {limit.name}={_show(hard)}, or raise yours in /etc/security/limits.conf",
    )


def _show(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)

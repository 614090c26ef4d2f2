"""Limits as cgroup files, and the values that are refused."""

from __future__ import annotations

import pytest

from sandbox.errors import InvalidSpec
from sandbox.linux.cgroups_limits import parse_cpus, settings, validate
from sandbox.spec import Limits

MIB = 1 << 20


def files(limits: Limits) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings(limits)}


def test_no_limit_writes_nothing() -> None:
    """Limits that a cgroup has no part in leave its files alone."""
    assert settings(Limits(timeout=1, storage_size=MIB)) == ()


def test_memory_alone_allows_as_much_swap() -> None:
    """docker: with --memory and without --memory-swap there is as much swap as memory."""
    assert files(Limits(memory=64 * MIB)) == {
        "memory.max": str(64 * MIB),
        "memory.oom.group": "1",
        "memory.swap.max": str(64 * MIB),
    }


@pytest.mark.parametrize(
    ("total", "swap"), [(64 * MIB, "0"), (80 * MIB, str(16 * MIB)), (-1, "max")]
)
def test_memory_swap_counts_both_together(total: int, swap: str) -> None:
    """docker: --memory-swap is memory and swap; -1 is unlimited swap."""
    assert files(Limits(memory=64 * MIB, memory_swap=total))["memory.swap.max"] == swap


def test_cpus_are_a_quota_of_a_period() -> None:
    """--cpus 1.5 is 150 of every 100 milliseconds."""
    assert files(Limits(cpus=1.5)) == {"cpu.max": "150000 100000"}


@pytest.mark.parametrize("pids", [0, -1])
def test_pids_can_be_unlimited(pids: int) -> None:
    """docker: 0 and -1 are no limit."""
    assert files(Limits(pids=pids)) == {}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory=6 * MIB - 1), "too small"),
        (Limits(memory_swap=64 * MIB), "needs --memory"),
        (Limits(memory=64 * MIB, memory_swap=63 * MIB), "below --memory"),
        (Limits(cpus=0.001), "out of range"),
        (Limits(cpus=100_000), "out of range"),
        (Limits(cpuset_cpus="0-"), "invalid list"),
        (Limits(cpuset_cpus="65000"), "no such processor"),
        (Limits(pids=-2), "negative"),
    ],
)
def test_senseless_values_are_refused(limits: Limits, message: str) -> None:
    """What docker refuses is refused before anything is made."""
    with pytest.raises(InvalidSpec, match=message):
        validate(limits)


def test_a_list_of_processors_has_ranges_and_numbers() -> None:
    """The list format of cpuset(7)."""
    assert parse_cpus("0-2,4") == {0, 1, 2, 4}


@pytest.mark.parametrize("text", ["", ",", "a", "2-1", "1-x", "-1", "0-99999999"])
def test_a_malformed_list_of_processors_is_refused(text: str) -> None:
    """Nothing but numbers and rising ranges."""
    with pytest.raises(InvalidSpec):
        parse_cpus(text)

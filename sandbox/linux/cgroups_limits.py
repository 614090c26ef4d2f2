"""What limits mean as cgroup files, and which values make sense.

Source: Documentation/admin-guide/cgroup-v2.rst; the smallest and largest values are docker's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from msgspec import Struct

from sandbox.errors import InvalidSpec
from sandbox.linux.cgroups_directory import Cgroup
from sandbox.spec import Limits

FLAGS = {
    "memory": "--memory",
    "memory_swap": "--memory-swap",
    "cpus": "--cpus",
    "cpuset_cpus": "--cpuset-cpus",
    "pids": "--pids-limit",
}
_MIN_MEMORY = 6 << 20
_PERIOD = 100_000  # microseconds, the kernel's default
_MIN_CPUS = 0.01  # 1000 of 100000 microseconds: the kernel takes no smaller quota


class Setting(Struct, frozen=True):
    """*value* goes into *file* (of *controller*), because of the limit named *limit*."""

    limit: str
    controller: str
    file: str
    value: str


def settings(limits: Limits) -> tuple[Setting, ...]:
    """Return what to write for *limits*, in this order."""
    found = []
    if limits.memory is not None:
        found.append(Setting("memory", "memory", "memory.max", str(limits.memory)))
        # One process killed out of many leaves a program that is broken in new ways.
        found.append(Setting("memory", "memory", "memory.oom.group", "1"))
        found.append(_swap(limits.memory, limits.memory_swap))
    if limits.cpus is not None:
        value = f"{round(limits.cpus * _PERIOD)} {_PERIOD}"
        found.append(Setting("cpus", "cpu", "cpu.max", value))
    if limits.cpuset_cpus is not None:
        found.append(Setting("cpuset_cpus", "cpuset", "cpuset.cpus", limits.cpuset_cpus))
    if limits.pids is not None and limits.pids > 0:
        found.append(Setting("pids", "pids", "pids.max", str(limits.pids)))
    return tuple(found)


def _swap(memory: int, memory_swap: int | None) -> Setting:
    """docker's option counts memory and swap together; unset, there is as much swap as memory."""
    if memory_swap is None:
        value = str(memory)
    else:
        value = "max" if memory_swap == -1 else str(memory_swap - memory)
    # Without the option the swap limit belongs to the memory limit.
    name = "memory" if memory_swap is None else "memory_swap"
    return Setting(name, "memory", "memory.swap.max", value)


def apply(cgroup: Cgroup, wanted: Iterable[Setting]) -> tuple[dict[str, str], dict[str, str]]:
    """Write the settings; return (limit -> files it is enforced by, limit -> why it is not)."""
    enforced: dict[str, str] = {}
    missing: dict[str, str] = {}
    for setting in wanted:
        reason = _write(cgroup, setting)
        if reason is not None:
            missing.setdefault(setting.limit, reason)
        elif setting.file != "memory.oom.group":  # how, not how much
            before = enforced.get(setting.limit)
            enforced[setting.limit] = f"{before}, {setting.file}" if before else setting.file
    kept = {name: f"cgroup {files}" for name, files in enforced.items() if name not in missing}
    return kept, missing


def _write(cgroup: Cgroup, setting: Setting) -> str | None:
    try:
        cgroup.write(setting.file, setting.value)
    except FileNotFoundError:
        return _absent(setting)
    except OSError as err:
        return f"{setting.file}: {err.strerror}"
    return None


def _absent(setting: Setting) -> str | None:
    if setting.file == "memory.oom.group":  # before Linux 4.19
        return None
    if setting.file == "memory.swap.max":
        if setting.value == "max" or not swap_present():
            return None
        return "the kernel does not account swap (swapaccount=0)"
    return f"the {setting.controller} controller is not delegated"


def swap_present() -> bool:
    """True when the machine has swap in use (proc(5): /proc/swaps has a heading)."""
    try:
        with open("/proc/swaps") as file:
            return len(file.readlines()) > 1
    except OSError:
        return False


def validate(limits: Limits) -> None:
    """Raises InvalidSpec for values that docker refuses as well."""
    if limits.memory is not None and limits.memory < _MIN_MEMORY:
        raise InvalidSpec(f"--memory {limits.memory} is too small", hint="at least 6m")
    _validate_swap(limits)
    if limits.cpus is not None:
        _validate_cpus(limits.cpus)
    if limits.cpuset_cpus is not None:
        _validate_cpuset(limits.cpuset_cpus)
    if limits.pids is not None and limits.pids < -1:
        raise InvalidSpec(f"--pids-limit {limits.pids} is negative", hint="-1 is unlimited")


def _validate_swap(limits: Limits) -> None:
    total = limits.memory_swap
    if total is None or total == -1:
        return
    if limits.memory is None:
        raise InvalidSpec(
            "--memory-swap needs --memory", hint="it is memory and swap together, as in docker"
        )
    if total < limits.memory:
        raise InvalidSpec(
            "--memory-swap is below --memory", hint="it is memory and swap together, as in docker"
        )


def _validate_cpus(cpus: float) -> None:
    online = len(online_cpus())
    if not _MIN_CPUS <= cpus <= online:
        raise InvalidSpec(f"--cpus {cpus:g} is out of range", hint=f"{_MIN_CPUS} to {online}")


def _validate_cpuset(text: str) -> None:
    online = online_cpus()
    absent = parse_cpus(text) - online
    if absent:
        names = ",".join(map(str, sorted(absent)))
        raise InvalidSpec(
            f"--cpuset-cpus {text}: no such processor here: {names}",
            hint=f"there are {','.join(map(str, sorted(online)))}",
        )


def parse_cpus(text: str) -> frozenset[int]:
    """Parse the list format of cpuset(7): "0-2,4". Raises InvalidSpec."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidSpec(f"invalid list of processors: {text!r}", hint="0-2,4")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high > 0xFFFF:
            raise InvalidSpec(f"invalid list of processors: {text!r}", hint="0-2,4")
        found.update(range(low, high + 1))
    return frozenset(found)


def online_cpus() -> frozenset[int]:
    """Return the numbers of the processors that are switched on."""
    try:
        with open("/sys/devices/system/cpu/online") as file:
            return parse_cpus(file.read().strip())
    except OSError as err:
        if err.errno not in (errno.ENOENT, errno.EACCES):
            raise
        return frozenset(range(os.cpu_count() or 1))

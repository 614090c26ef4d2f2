"""Sizes, durations and numbers as docker's options spell them."""

from __future__ import annotations

import math
import re

from sandbox.errors import InvalidSpec

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_SIZE_HINT = "a number and a unit: b, k, m, g or t, as in 512m"
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
# What the kernel's own interfaces take (loff_t).
_LARGEST = 2**63 - 1


def parse_size(text: str, what: str = "size") -> int:
    """Return *text* (`64m`, `1.5GiB`, `512`) as bytes; units are powers of 1024.

    Raises InvalidSpec.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidSpec(f"invalid {what}: {text!r}", hint=_SIZE_HINT)
    number, unit = match.groups()
    power = " kmgtp".index(unit.lower() or " ")
    size = int(float(number) * 1024**power) if "." in number else int(number) * 1024**power
    if size > _LARGEST:
        raise InvalidSpec(f"invalid {what}: {text} is too large")
    return size


def parse_memory_swap(text: str) -> int:
    """Return memory plus swap in bytes; -1 means unlimited."""
    return -1 if text.strip() == "-1" else parse_size(text, "memory-swap")


def parse_duration(text: str, what: str = "duration") -> float:
    """Return *text* (`10`, `1.5s`, `1h30m`) as seconds. Raises InvalidSpec."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text or len(text) > 100:
        raise InvalidSpec(f"invalid {what}: {text!r}", hint="seconds, or as in 90s, 10m, 1h30m")
    return math.fsum(_seconds(part) for part in parts)


def _seconds(part: str) -> float:
    number = part.rstrip("nuµmshd")
    return float(number) * _SECONDS[part[len(number) :]]


def parse_count(text: str, what: str) -> int:
    """Return *text* as a number that is not negative. Raises InvalidSpec."""
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise InvalidSpec(f"invalid {what}: {text!r} is not a number")
    return int(text)


def parse_cpus(text: str) -> float:
    """Return a number of processors, `1.5`. Raises InvalidSpec."""
    try:
        cpus = float(text)
    except ValueError:
        cpus = math.nan
    if not 0 < cpus <= 1 << 16:  # false for nan as well
        raise InvalidSpec(f"invalid number of cpus: {text!r}", hint="a number above 0, as in 1.5")
    return cpus


def parse_cpuset(text: str) -> str:
    """Return *text*, checked to be a list as in cpuset(7): `0-2,4`. Raises InvalidSpec."""
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidSpec(f"invalid cpuset: {text!r}", hint="processors as in 0-2,4")
    return text

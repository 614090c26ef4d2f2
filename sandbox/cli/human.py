"""Times and sizes in docker's words (docker/go-units)."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    """Return `3 seconds`, `About a minute`, `2 weeks` …"""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, size, name in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < 24 * limit:
            return f"{hours // 24 // size} {name}"
    return f"{hours // 24 // 365} years"


def ago(moment: float, now: float | None = None) -> str:
    """Return how long ago *moment* (seconds since the epoch) was."""
    return f"{duration((time.time() if now is None else now) - moment)} ago"


def size(count: float, precision: int = 3) -> str:
    """Return `1.23MB`: powers of 1000, *precision* digits."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    unit = 0
    while count >= 1000 and unit < len(units) - 1:
        count /= 1000
        unit += 1
    return f"{count:.{precision}g}{units[unit]}" if count < 1000 else f"{count:.0f}{units[unit]}"


def timestamp(moment: float) -> str:
    """Return `2026-01-31 15:04:05 +0000 UTC` in the local zone."""
    local = time.localtime(moment)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", local)

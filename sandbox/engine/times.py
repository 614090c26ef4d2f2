"""Moments as text (RFC 3339), and the text of `--since` and `--until` as moments."""

from __future__ import annotations

import re
import time

from sandbox.engine.sizes import parse_duration
from sandbox.errors import InvalidSpec

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?"
)


def rfc3339(moment: float | None) -> str:
    """Return `2026-01-31T15:04:05.123456Z`; Go's zero time for None."""
    if moment is None:
        return "0001-01-01T00:00:00Z"
    whole, fraction = divmod(round(moment * 1_000_000), 1_000_000)
    digits = f".{fraction:06d}".rstrip("0") if fraction else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + digits + "Z"


def log_time(moment: float) -> str:
    """Return *moment* as logs have it: nine digits after the point, so that text sorts by time."""
    whole, nanoseconds = divmod(round(moment * 10**9), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{nanoseconds:09d}Z"


def parse_moment(text: str, now: float) -> float:
    """Return *text* as seconds since the epoch.

    It is a timestamp (`2026-01-31T15:04:05Z`; the local zone when none is said; seconds since the
    epoch), or how long ago (`10m`, `1h30m`). Raises InvalidSpec.
    """
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return float(text)
    match = _RFC3339.fullmatch(text)
    if match is not None:
        return _from_rfc3339(match, text)
    return now - parse_duration(text, "time")


def _from_rfc3339(match: re.Match[str], text: str) -> float:
    import datetime

    day, clock, fraction, zone = match.groups()
    clock = clock or "00:00"
    clock = clock if clock.count(":") == 2 else f"{clock}:00"
    zone = "+00:00" if zone in ("Z", "z") else zone or ""
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{clock}{zone}").timestamp()
    except (ValueError, OverflowError) as err:
        raise InvalidSpec(f"invalid time: {text!r}", detail=str(err)) from err
    return moment + float(fraction or 0)

"""What Go prints for a value, and what it takes for true (package fmt, verb %v)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class StringMap(dict[str, str]):
    """Go's map[string]string: a key that is not there is "" instead of an error."""

    def __missing__(self, key: str) -> str:
        return ""


def is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_true(value: Any) -> bool:
    """Return what `if` decides: false are false, 0, nil, and whatever is empty."""
    return bool(value)


def printed(value: Any) -> str:
    """Return *value* as an action prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{k}:{_inner(value[k])}' for k in sorted(value))}]"
    if is_sequence(value):
        return f"[{' '.join(_inner(item) for item in value)}]"
    return str(value)


def _inner(value: Any) -> str:
    return "<nil>" if value is None else printed(value)


def _float(value: float) -> str:
    """Return the shortest decimal; an exponent below 1e-4 and from 1e21 on."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    mantissa, _, exponent = repr(value).partition("e")
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    if exponent and int(exponent) >= 0:
        return f"{mantissa.removesuffix('.0')}e+{int(exponent):02d}"
    if exponent:
        return f"{mantissa.removesuffix('.0')}e-{-int(exponent):02d}"
    return mantissa

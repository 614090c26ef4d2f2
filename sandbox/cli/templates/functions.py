"""The functions of a template: Go's own, and those that docker adds.

https://pkg.go.dev/text/template#hdr-Functions, https://docs.docker.com/engine/cli/formatting/
`and` and `or` stop at the first operand that decides, so they are part of the evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.cli.templates.lexer import TemplateError
from sandbox.cli.templates.values import is_sequence, is_true, printed

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d+))?(?P<verb>[a-zA-Z%])"
)
# A width a person could mean; "%999999999d" must not fill the memory.
_WIDEST = 10_000


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping) or is_sequence(value):
        return len(value)
    raise TemplateError(f"len of {printed(value)}, which has none")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, _zero_like(value))
        elif is_sequence(value) or isinstance(value, str):
            if isinstance(key, bool) or not isinstance(key, int):
                raise TemplateError(f"index of a list must be a number, not {printed(key)!r}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        elif value is None:
            raise TemplateError("index of nil")
        else:
            raise TemplateError(f"can't index {printed(value)!r}")
    return value


def _zero_like(mapping: Mapping[Any, Any]) -> str | None:
    """Return what Go has for a key that is not there: the zero value of the others' type."""
    return "" if any(isinstance(value, str) for value in mapping.values()) else None


def _slice(value: Any, *bounds: Any) -> Any:
    if not (is_sequence(value) or isinstance(value, str)) or len(bounds) > 2:
        raise TemplateError(f"can't slice {printed(value)!r}")
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(value)
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(value)):
        raise TemplateError("slice: index out of range")
    return value[start:end]


def _json(value: Any) -> str:
    import json

    if isinstance(value, Mapping):
        # A row's methods are for templates.
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _join(items: Any, separator: Any = "") -> str:
    if not is_sequence(items):
        raise TemplateError(f"join of {printed(items)!r}, which is not a list")
    return str(separator).join(printed(item) for item in items)


def _print(*values: Any) -> str:
    # fmt.Sprint puts spaces between operands when neither is a string.
    text = ""
    for number, value in enumerate(values):
        previous = values[number - 1] if number else ""
        if number and not isinstance(value, str) and not isinstance(previous, str):
            text += " "
        text += printed(value)
    return text


def _println(*values: Any) -> str:
    return " ".join(printed(value) for value in values) + "\n"


def _printf(form: Any, *values: Any) -> str:
    if not isinstance(form, str):
        raise TemplateError("printf needs a format string")
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        return _verb(match, rest.pop(0))

    text = _VERB.sub(one, form)
    if rest:
        text += f"%!(EXTRA {', '.join(printed(value) for value in rest)})"
    return text


def _verb(match: re.Match[str], value: Any) -> str:
    verb, flags = match["verb"], match["flags"]
    precision = int(match["precision"]) if match["precision"] else None
    if int(match["width"] or 0) > _WIDEST or (precision or 0) > _WIDEST:
        raise TemplateError("printf: too wide")
    number = isinstance(value, int) and not isinstance(value, bool)
    if verb in "vs":
        text = printed(value)
        text = text if precision is None else text[:precision]
    elif verb == "q" and isinstance(value, str):
        text = _json(value)
    elif verb == "T":
        text = type(value).__name__
    elif verb == "t" and isinstance(value, bool):
        text = printed(value)
    elif verb in "dxXob" and number:
        text = format(value, f"+{verb}" if "+" in flags else verb)
    elif verb == "c" and number and 0 <= value < 0x110000:
        text = chr(value)
    elif verb in "feg" and isinstance(value, float):
        text = format(
            value, f"{'+' if '+' in flags else ''}.{6 if precision is None else precision}{verb}"
        )
    elif verb in "xX" and isinstance(value, str):
        text = format(int.from_bytes(value.encode(), "big"), verb) if value else ""
    else:
        return f"%!{verb}({type(value).__name__}={printed(value)})"
    return _padded(text, flags, int(match["width"] or 0), numeric=verb in "dxXobfeg")


def _padded(text: str, flags: str, width: int, *, numeric: bool) -> str:
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags and numeric else text.rjust(width)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("eq: missing argument for comparison")
    return any(_comparable(first, other) and first == other for other in others)


def _comparable(first: Any, second: Any) -> bool:
    kinds = [(bool,), (int, float), (str,)]
    for kind in kinds:
        if isinstance(first, kind) or isinstance(second, kind):
            if first is None or second is None:
                return False
            if isinstance(first, kind) and isinstance(second, kind):
                return True
            raise TemplateError(f"can't compare {printed(first)!r} and {printed(second)!r}")
    return True


def _ordered(name: str, decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        if not _comparable(first, second) or not isinstance(first, int | float | str):
            raise TemplateError(f"{name}: {printed(first)!r} has no order")
        return decide(first, second)

    return compare


def _split(text: Any, separator: Any) -> list[str]:
    return str(text).split(str(separator)) if separator else list(str(text))


def _pad(text: Any, before: Any, after: Any) -> str:
    if not (isinstance(before, int) and isinstance(after, int)) or max(before, after) > _WIDEST:
        raise TemplateError("pad needs two small numbers")
    return " " * before + str(text) + " " * after if text else str(text)


def _truncate(text: Any, length: Any) -> str:
    if not isinstance(length, int) or length < 0:
        raise TemplateError("truncate needs a length")
    return str(text)[:length]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": _length,
    "index": _index,
    "slice": _slice,
    "not": lambda value: not is_true(value),
    "print": _print,
    "println": _println,
    "printf": _printf,
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _ordered("lt", lambda a, b: bool(a < b)),
    "le": _ordered("le", lambda a, b: bool(a <= b)),
    "gt": _ordered("gt", lambda a, b: bool(a > b)),
    "ge": _ordered("ge", lambda a, b: bool(a >= b)),
    "json": _json,
    "join": _join,
    "split": _split,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": lambda text: str(text).title(),
    "pad": _pad,
    "truncate": _truncate,
}

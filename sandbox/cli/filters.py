"""`--filter KEY=VALUE`: keys narrow, values of one key widen (labels always narrow)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sandbox.cli.similar import most_similar
from sandbox.errors import UsageError


def parse_filters(given: Iterable[str], known: Collection[str]) -> dict[str, list[str]]:
    """Return the values of each key. Raises UsageError for a key that is not *known*."""
    filters: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"invalid filter {text!r}: expected KEY=VALUE")
        if key not in known:
            similar = most_similar(key, known)
            raise UsageError(
                f"invalid filter {key!r}",
                hint=f"did you mean {similar}?" if similar else f"use {', '.join(sorted(known))}",
            )
        filters.setdefault(key, []).append(value.strip())
    return filters


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Return whether every one of *wanted* (`key` or `key=value`) is among *labels*."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True

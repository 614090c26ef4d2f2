"""`--filter` of images: which are meant.

https://docs.docker.com/reference/cli/docker/image/ls/#filter
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from sandbox.cli.filters import has_labels, parse_filters
from sandbox.cli.image_store import familiar
from sandbox.errors import UsageError
from sandbox.image.image import Image
from sandbox.image.store import Store

LISTED = ("dangling", "label", "before", "since", "until", "reference")
PRUNED = ("dangling", "label", "until")


def image_filter(
    given: Sequence[str], store: Store, known: Sequence[str] = LISTED
) -> Callable[[Image], bool]:
    """Return the test that --filter asks for. Raises UsageError, NotFound."""
    filters = parse_filters(given, known)
    dangling = _boolean(filters.get("dangling", []))
    before = [_created(r, store) for r in filters.get("before", [])]
    since = [_created(r, store) for r in filters.get("since", [])]
    before += [_moment(text) for text in filters.get("until", [])]
    patterns = [glob(text) for text in filters.get("reference", [])]

    def selects(image: Image) -> bool:
        created = image.created or 0.0
        return (
            (dangling is None or dangling is not bool(image.names))
            and has_labels(dict(image.config.labels), filters.get("label", []))
            and all(created < moment for moment in before)
            and all(created > moment for moment in since)
            and (not patterns or any(p(n) for p in patterns for n in image.names))
        )

    return selects


def glob(pattern: str) -> Callable[[str], bool]:
    """Return a test of names in full against a pattern as in path.Match, with or without tag."""
    parts = re.split(r"(\*|\?|\[[^\]/]*\])", pattern)
    regex = re.compile("".join(map(_translate, parts)))

    def matches(name: str) -> bool:
        short = familiar(name)
        forms = (short, name, short.rpartition(":")[0], name.rpartition(":")[0])
        return any(regex.fullmatch(form) for form in forms)

    return matches


def _translate(part: str) -> str:
    if part in ("*", "?"):
        return "[^/]" + ("*" if part == "*" else "")
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        inner = part[1:-1]
        body = re.escape(inner.lstrip("^")).replace(r"\-", "-")
        candidate = f"[{'^' if inner.startswith('^') else ''}{body}]"
        try:
            re.compile(candidate)
        except re.error:
            return re.escape(part)
        return candidate
    return re.escape(part)


def _boolean(values: Sequence[str]) -> bool | None:
    if not values:
        return None
    if values[-1] not in ("true", "false", "1", "0"):
        raise UsageError(f"invalid filter 'dangling={values[-1]}'", hint="use true or false")
    return values[-1] in ("true", "1")


def _created(reference: str, store: Store) -> float:
    return store.find(reference).created or 0.0


def _moment(text: str) -> float:
    from sandbox.engine.times import parse_moment

    return parse_moment(text, time.time())

"""JSON documents that others wrote: bounded, and checked before they are believed."""

from __future__ import annotations

import json
from typing import Any

from sandbox.errors import StoreError

# What registries accept as well: the distribution specification asks for 4 MiB at least.
MOST_BYTES = 4 << 20


def parse_object(data: bytes, what: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return the JSON object in *data*. Raises StoreError, naming *what* it was to be."""
    if len(data) > most_bytes:
        raise StoreError(f"{what} refused", detail=f"larger than {most_bytes >> 20} MiB")
    try:
        value = json.loads(data)
        if b"\\u" in data:
            # Halves of surrogate pairs are no text: nothing could print or write them.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as err:
        raise StoreError(f"damaged {what}", detail=str(err)[:200]) from None
    if not isinstance(value, dict):
        raise StoreError(f"damaged {what}", detail="not a JSON object")
    return value


def objects(value: Any, what: str) -> list[dict[str, Any]]:
    """Return *value* as a list of objects; nothing counts as an empty list. Raises StoreError."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise StoreError(f"damaged {what}", detail="not a list of objects")
    return value


def texts(value: Any, what: str) -> tuple[str, ...]:
    """Return *value* as strings; nothing counts as no strings. Raises StoreError."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StoreError(f"damaged {what}", detail="not a list of strings")
    return tuple(value)


def text(value: Any, what: str) -> str:
    """Return *value* as a string; nothing counts as an empty one. Raises StoreError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise StoreError(f"damaged {what}", detail="not a string")
    return value


def compact(value: Any) -> bytes:
    """Return *value* as JSON without needless spaces: the same bytes for the same value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

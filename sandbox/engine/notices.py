"""Things worth saying once to each user, not at every run."""

from __future__ import annotations

import sys

from sandbox.engine.context import Context
from sandbox.errors import harmless
from sandbox.paths import make_private


def say_once(context: Context, key: str, text: str) -> None:
    """Print *text* on standard error unless that was done before."""
    marker = make_private(context.paths.data) / f".said-{key}"
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    print(f"sbx: note: {harmless(text)}", file=sys.stderr)

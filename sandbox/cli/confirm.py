"""Asking before something is lost."""

from __future__ import annotations

import sys


def confirmed(warning: str) -> bool:
    """Print *warning* and return whether the user agrees; nobody's answer is no."""
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")

"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def most_similar(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like *word*, None when none is alike."""
    # difflib costs some milliseconds to import, and only mistakes need it.
    import difflib

    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None

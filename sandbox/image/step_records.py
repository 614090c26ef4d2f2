"""Records of a build's steps: which layer a step came to. They keep their layers in the store.

A record is a JSON file `steps/KEY`: {"diff_id": …, "layer": descriptor}. When it was last used is
its mtime.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.image.descriptor import parse_descriptor
from sandbox.image.reference import is_digest

_KEY = re.compile("[0-9a-f]{64}")


def directory(root: Path) -> Path:
    return root / "steps"


def read(root: Path, key: str) -> dict[str, Any] | None:
    """Return a record; None when there is none, or a damaged one."""
    try:
        value = json.loads((directory(root) / key).read_bytes())
        parse_descriptor(value["layer"])
        return value if is_digest(value["diff_id"]) else None
    except Exception:  # whatever is wrong with it, the step is carried out again
        return None


def touch(root: Path, key: str) -> None:
    """Note that the record is still of use."""
    try:
        os.utime(directory(root) / key)
    except OSError:
        pass


def write(root: Path, key: str, record: dict[str, Any]) -> None:
    """Write a record: whole or not at all, also after a power cut."""
    directory(root).mkdir(mode=0o700, exist_ok=True)
    aside = root / "staging" / f"step-{os.urandom(8).hex()}"
    with open(aside, "x") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(aside, directory(root) / key)


def records(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all records that can be read, with their keys."""
    try:
        names = os.listdir(directory(root))
    except FileNotFoundError:
        return
    for name in names:
        record = read(root, name) if _KEY.fullmatch(name) else None
        if record is not None:
            yield name, record


def last_used(root: Path, key: str) -> float:
    """Return when a record was of use last, in seconds since the epoch."""
    try:
        return (directory(root) / key).stat().st_mtime
    except OSError:
        return 0.0


def forget_older(root: Path, seconds: float) -> None:
    """Remove the records that were of no use for so long; what they kept goes with a prune."""
    oldest = time.time() - seconds
    for key, _ in list(records(root)):
        if last_used(root, key) < oldest:
            remove(root, key)


def remove(root: Path, key: str) -> None:
    (directory(root) / key).unlink(missing_ok=True)

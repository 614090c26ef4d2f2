"""An upper can change hands between this driver, the kernel's overlay and fuse-overlayfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuse_overlay.config import Config

from . import cell
from .conftest import Overlay

TREE = {"d/a": "a", "d/b": "b", "e/a": "a", "keep": "k"}


def fill(root: Path) -> None:
    for name, text in TREE.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)


def change(root: Path) -> None:
    """Everything that leaves a mark."""
    (root / "d/a").unlink()
    (root / "d/b").write_text("changed")
    shutil.rmtree(root / "e")
    (root / "e").mkdir()
    (root / "e/new").write_text("new")
    (root / "keep").rename(root / "renamed")


EXPECTED = {"d": None, "d/b": "changed", "e": None, "e/new": "new", "renamed": "k"}


def look(root: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_text()
        for path in root.rglob("*")
    }


def with_other_driver(words: list[str], root: Path, call: Callable[..., Any]) -> Any:
    """Call with the overlay mounted by another driver, in this process's own namespace."""
    try:
        subprocess.run(words, check=True, stderr=subprocess.PIPE)
    except (OSError, subprocess.CalledProcessError) as err:
        return f"cannot mount: {getattr(err, 'stderr', err)!r}"
    try:
        return call(root)
    finally:
        subprocess.run(["umount", root], check=True)


def other(overlay: Overlay, driver: str, call: Callable[..., Any]) -> Any:
    """Call with another driver's mount of the overlay's directories."""
    place = overlay.base / "other"
    place.mkdir(exist_ok=True)
    options = f"lowerdir={overlay.lower},upperdir={overlay.upper},workdir={overlay.base}/work2"
    (overlay.base / "work2").mkdir(exist_ok=True)
    if driver == "kernel":
        words = ["mount", "-t", "overlay", "overlay", "-o", f"userxattr,{options}", str(place)]
    else:
        words = ["fuse-overlayfs", "-o", options, str(place)]
    empty = cell.Cell(
        Config(lower=(str(overlay.lower),), upper=None, work=None), overlay.mountpoint
    )
    empty.mount()
    try:
        answer = empty.run(with_other_driver, words, place, call)
    finally:
        empty.unmount()
    if isinstance(answer, str):
        pytest.skip(answer)
    return answer


@pytest.mark.parametrize("driver", ["kernel", "fuse-overlayfs"])
def test_our_upper_is_read_by_others(overlay: Overlay, driver: str) -> None:
    """What was changed through this overlay is seen through the other driver."""
    fill(overlay.lower)
    change(overlay.merged)
    overlay.mounted().unmount()
    overlay.cell = None

    assert other(overlay, driver, look) == EXPECTED


@pytest.mark.parametrize("driver", ["kernel", "fuse-overlayfs"])
def test_the_others_upper_is_read_by_us(overlay: Overlay, driver: str) -> None:
    """What was changed through the other driver is seen through this overlay."""
    fill(overlay.lower)
    if driver == "fuse-overlayfs":  # it marks a new directory's opacity by its own xattr
        os.chmod(overlay.upper, 0o755)
    other(overlay, driver, change)

    assert look(overlay.merged) == EXPECTED

"""The `overlay` fixture: one lower, an upper and the merged view of both."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuse_overlay.config import Config

from . import cell


class Overlay:
    """Directories of a test's overlay; it is mounted by the first use of `merged`."""

    def __init__(self, base: Path, lowers: int = 1, **options: Any) -> None:
        self.base = base
        base.chmod(0o755)  # for the other ids of the namespace
        self.lowers = [base / f"lower{number}" for number in range(lowers)]
        self.upper = base / "upper"
        self.work = base / "work"
        self._mountpoint = base / "merged"
        for path in (*self.lowers, self.upper, self.work, self._mountpoint):
            path.mkdir()
        self._options = options
        self.cell: cell.Cell | None = None

    @property
    def lower(self) -> Path:
        """The topmost lower."""
        return self.lowers[0]

    @property
    def merged(self) -> Path:
        """The merged view, mounted when first asked for."""
        return self.mounted().path

    @property
    def mountpoint(self) -> Path:
        """The merged view's path inside the namespace, for `run`."""
        return self._mountpoint

    def mounted(self) -> cell.Cell:
        """The mount, made now if there is none."""
        if self.cell is None:
            options = dict(self._options)
            how = {
                key: options.pop(key)
                for key in ("many_ids", "nested", "allow_other")
                if key in options
            }
            options.setdefault("volatile", True)
            read_only = options.pop("read_only", False)
            config = Config(
                lower=tuple(str(path) for path in self.lowers),
                upper=None if read_only else str(self.upper),
                work=None if read_only else str(self.work),
                **options,
            )
            self.cell = cell.Cell(config, self._mountpoint, **how)
            self.cell.mount()
        return self.cell

    def remount(self) -> None:
        """Unmount and mount again: what the kernel and the server knew is forgotten."""
        self.mounted().remount()

    def run(self, function: Callable[..., Any], *args: Any, uid: int = 0, gid: int = 0) -> Any:
        """Call *function* inside, as any id of the namespace."""
        return self.mounted().run(function, *args, uid=uid, gid=gid)

    def close(self) -> None:
        """Unmount; an error of the server is an error of the test."""
        if self.cell is not None:
            self.cell.unmount()


@pytest.fixture
def make_overlay() -> Iterator[Callable[..., Overlay]]:
    """Overlays with any number of lowers and any options."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not accessible")
    made: list[Overlay] = []

    def make(lowers: int = 1, **options: Any) -> Overlay:
        base = Path(tempfile.mkdtemp(prefix="overlay-"))
        made.append(Overlay(base, lowers, **options))
        return made[-1]

    yield make
    try:
        for overlay in made:
            overlay.close()
    finally:
        for overlay in made:
            _remove(overlay)


def _remove(overlay: Overlay) -> None:
    remove = ["rm", "-rf", overlay.base]  # shutil.rmtree recurses: not for deep trees
    # The kernel's overlay leaves a directory of mode 0 in its work directory.
    subprocess.run(["chmod", "-R", "u+rwX", overlay.base], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(remove, stderr=subprocess.DEVNULL, check=False)
    if overlay.base.exists():  # files of subordinate ids: their namespace's root removes them
        for path in (overlay.lower, overlay.mountpoint):
            path.mkdir(exist_ok=True)
        remover = cell.Cell(
            Config(lower=(str(overlay.lower),), upper=None, work=None),
            overlay.mountpoint,
            many_ids=True,
        )
        remover.mount()
        for path in (overlay.upper, overlay.work):
            remover.run(shutil.rmtree, path, True)
        remover.unmount()
        subprocess.run(remove, check=True)


@pytest.fixture
def overlay(make_overlay: Callable[..., Overlay]) -> Overlay:
    """An overlay of one lower."""
    return make_overlay()


@pytest.fixture
def ids_overlay(make_overlay: Callable[..., Overlay]) -> Overlay:
    """An overlay in a namespace with many ids, its server in the namespace above."""
    if cell.subids() is None and os.getuid() != 0:
        pytest.skip("the user has no subordinate ids")
    return make_overlay(many_ids=True, nested=True, allow_other=True)

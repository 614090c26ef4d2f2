"""Quotas: refused in time, exactly, and given back."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Overlay

MiB = 1 << 20


def fill(path: Path, size: int = 100 * MiB) -> int:
    """Write until there is no room; how much was written."""
    done = 0
    with path.open("wb", buffering=0) as file, contextlib.suppress(NoSpace):
        while done < size:
            done += refused_as_such(file.write, bytes(65536))
    return done


class NoSpace(Exception):
    """ENOSPC."""


def refused_as_such(call: Callable[..., Any], *args: Any) -> Any:
    """Call; ENOSPC is a `NoSpace`."""
    try:
        return call(*args)
    except OSError as err:
        if err.errno == errno.ENOSPC:
            raise NoSpace from err
        raise


def test_writing_stops_at_the_limit(make_overlay: Callable[..., Overlay]) -> None:
    """ENOSPC comes from the write that goes over, and the room is free again after unlink."""
    overlay = make_overlay(size=4 * MiB)
    for _ in range(3):
        assert 3 * MiB < fill(overlay.merged / "a") <= 4 * MiB
        with pytest.raises(OSError, match="No space"):
            (overlay.merged / "b").write_bytes(bytes(MiB))
        (overlay.merged / "a").unlink()
        (overlay.merged / "b").unlink()
    assert os.statvfs(overlay.merged).f_blocks * os.statvfs(overlay.merged).f_frsize == 4 * MiB


def test_an_open_file_without_a_name_still_counts(make_overlay: Callable[..., Overlay]) -> None:
    """Unlinking gives nothing back while the file is open."""
    overlay = make_overlay(size=4 * MiB)
    with (overlay.merged / "a").open("wb", buffering=0) as file:
        file.write(bytes(3 * MiB))
        (overlay.merged / "a").unlink()
        assert fill(overlay.merged / "b") <= MiB
    (overlay.merged / "b").unlink()
    assert fill(overlay.merged / "c") > 3 * MiB


def test_what_was_there_before_counts(make_overlay: Callable[..., Overlay]) -> None:
    """The use is measured at the mount."""
    overlay = make_overlay(size=4 * MiB)
    (overlay.upper / "a").write_bytes(b"x" * 3 * MiB)
    assert fill(overlay.merged / "b") <= MiB
    overlay.remount()
    assert fill(overlay.merged / "c") < MiB // 4


def test_overwriting_is_possible_at_the_limit(make_overlay: Callable[..., Overlay]) -> None:
    """A full overlay lets programs change what they have, shorten it and remove it."""
    overlay = make_overlay(size=2 * MiB)
    written = fill(overlay.merged / "a")
    with (overlay.merged / "a").open("r+b", buffering=0) as file:
        assert file.write(b"y" * 65536) == 65536
        file.truncate(written // 2)
    assert fill(overlay.merged / "b") > MiB // 2


def test_copy_up_counts(make_overlay: Callable[..., Overlay]) -> None:
    """A copy-up that would go over the limit is refused as a whole."""
    overlay = make_overlay(size=2 * MiB)
    (overlay.lower / "a").write_bytes(b"x" * 3 * MiB)
    with pytest.raises(OSError, match="No space"):
        (overlay.merged / "a").chmod(0o600)
    assert (overlay.merged / "a").stat().st_size == 3 * MiB
    assert os.listdir(overlay.upper) == []


def test_inodes_are_limited(make_overlay: Callable[..., Overlay]) -> None:
    """ENOSPC for the file too many, whatever its type; removing one makes room for one."""
    overlay = make_overlay(inodes=20)
    for number in range(20):
        (overlay.merged / str(number)).touch()
    with pytest.raises(NoSpace):
        refused_as_such((overlay.merged / "20").touch)
    for call in (Path.mkdir, lambda path: path.symlink_to("x"), os.mkfifo):
        with pytest.raises(OSError, match="No space"):
            call(overlay.merged / "more")
    (overlay.merged / "0").unlink()
    (overlay.merged / "again").mkdir()
    assert os.statvfs(overlay.merged).f_ffree == 0


def test_holes_are_free(make_overlay: Callable[..., Overlay]) -> None:
    """A sparse file may be larger than the limit."""
    overlay = make_overlay(size=2 * MiB)
    with (overlay.merged / "a").open("wb") as file:
        file.truncate(100 * MiB)
    assert (overlay.merged / "a").stat().st_size == 100 * MiB

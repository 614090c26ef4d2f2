"""What can be done with content beyond read and write: allocate, find holes, copy, no name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from fuse_overlay.syscalls import FALLOC_FL_PUNCH_HOLE, fallocate

from .conftest import Overlay

MiB = 1 << 20
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_ZERO_RANGE = 16


def test_fallocate_takes_room_in_a_copied_up_file(overlay: Overlay) -> None:
    """The blocks are the upper's, the content stays, the size grows unless told otherwise."""
    (overlay.lower / "a").write_bytes(b"lower")
    with (overlay.merged / "a").open("r+b") as file:
        fallocate(file.fileno(), FALLOC_FL_KEEP_SIZE, 0, MiB)
        assert os.fstat(file.fileno()).st_size == 5
        fallocate(file.fileno(), 0, 0, 2 * MiB)
        assert os.fstat(file.fileno()).st_size == 2 * MiB
        assert file.read(6) == b"lower\0"
    assert (overlay.upper / "a").stat().st_blocks * 512 >= 2 * MiB
    assert (overlay.lower / "a").read_bytes() == b"lower"


@pytest.mark.parametrize("mode", [FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE])
def test_a_punched_hole_is_zeros_at_once(overlay: Overlay, mode: int) -> None:
    """What was just written and is in the kernel's cache only goes too; the rest stays."""
    with (overlay.merged / "a").open("w+b", buffering=0) as file:
        file.write(b"x" * MiB)
        fallocate(file.fileno(), mode | FALLOC_FL_KEEP_SIZE, 4096, 8192)
        assert os.pread(file.fileno(), 3 * 4096 + 1, 4095) == b"x" + bytes(8192) + b"x" * 4096
    if mode == FALLOC_FL_PUNCH_HOLE:
        assert (overlay.upper / "a").stat().st_blocks * 512 <= MiB - 4096


def test_room_taken_by_fallocate_is_counted(make_overlay: Callable[..., Overlay]) -> None:
    """fallocate beyond the quota is ENOSPC; a punched hole gives room back."""
    overlay = make_overlay(size=4 * MiB)
    with (overlay.merged / "a").open("w+b") as file:
        fallocate(file.fileno(), 0, 0, 3 * MiB)
        with pytest.raises(OSError, match="No space"):
            fallocate(file.fileno(), 0, 3 * MiB, 2 * MiB)
        fallocate(file.fileno(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MiB)
        fallocate(file.fileno(), 0, 3 * MiB, 2 * MiB)


def test_holes_are_found_where_writes_are_not_gathered(
    make_overlay: Callable[..., Overlay],
) -> None:
    """With a quota, SEEK_DATA and SEEK_HOLE say what the real file has, lower or upper."""
    overlay = make_overlay(size=100 * MiB)
    for root in (overlay.lower, overlay.upper):
        with (root / root.name).open("wb") as file:
            file.truncate(8 * MiB)
            os.pwrite(file.fileno(), b"x" * 4096, 4 * MiB)
    for name in (overlay.lower.name, overlay.upper.name):
        with (overlay.merged / name).open("rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 4 * MiB
            assert os.lseek(file.fileno(), 4 * MiB, os.SEEK_HOLE) == 4 * MiB + 4096
            with pytest.raises(OSError, match="No such device") as caught:
                os.lseek(file.fileno(), 5 * MiB, os.SEEK_DATA)
            assert caught.value.errno == errno.ENXIO


def test_copy_file_range_copies_what_was_just_written(overlay: Overlay) -> None:
    """Source and target may be anything: lower, new, not yet written back."""
    (overlay.lower / "a").write_bytes(b"a" * MiB)
    (overlay.lower / "b").write_bytes(b"b" * MiB)
    with (overlay.merged / "a").open("r+b", buffering=0) as source:
        source.write(b"new")
        with (overlay.merged / "b").open("r+b", buffering=0) as target:
            target.write(b"kept")
            done = 0
            while done < MiB - 100:
                done += os.copy_file_range(
                    source.fileno(), target.fileno(), MiB - 100 - done, done, 100 + done
                )
            expected = b"kept" + b"b" * 96 + b"new" + b"a" * (MiB - 103)
            assert os.pread(target.fileno(), MiB, 0) == expected
    assert (overlay.upper / "b").read_bytes() == expected
    assert (overlay.lower / "b").read_bytes() == b"b" * MiB


def test_a_file_without_a_name_can_be_given_one(overlay: Overlay) -> None:
    """O_TMPFILE: nothing is to be seen before linkat(2), which makes a whole file, for good."""
    (overlay.lower / "d").mkdir()
    root = overlay.merged / "d"
    with open(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o640), "r+b", buffering=0) as file:
        fd = file.fileno()
        file.write(b"content")
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(root) == []

        below = os.open(root, os.O_PATH)
        os.link(f"/proc/self/fd/{fd}", "a", dst_dir_fd=below, follow_symlinks=True)
        os.close(below)

        assert os.fstat(fd).st_nlink == 1
        assert (root / "a").stat().st_ino == os.fstat(fd).st_ino
        file.write(b" and more")
    for _ in range(2):
        made = overlay.merged / "d" / "a"
        assert made.read_bytes() == b"content and more"
        assert made.stat().st_mode & 0o777 == 0o640
        overlay.remount()


def test_a_file_without_a_name_is_gone_when_closed(make_overlay: Callable[..., Overlay]) -> None:
    """O_TMPFILE counts while it is open, and gives its room back."""
    overlay = make_overlay(size=4 * MiB)
    for _ in range(3):
        with open(os.open(overlay.merged, os.O_TMPFILE | os.O_RDWR), "wb", buffering=0) as file:
            assert file.write(bytes(3 * MiB)) == 3 * MiB
            with pytest.raises(OSError, match="No space"):
                (overlay.merged / "b").write_bytes(bytes(2 * MiB))
        (overlay.merged / "b").unlink()
    assert list(overlay.merged.iterdir()) == []

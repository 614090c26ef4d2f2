"""What any program expects of a file system, over one lower."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from .conftest import Overlay


def is_whiteout(path: Path) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def test_a_lower_file_is_read_through(overlay: Overlay) -> None:
    """A file of the lower has its content and mode in the merged view."""
    (overlay.lower / "a").write_bytes(b"lower")
    (overlay.lower / "a").chmod(0o640)

    assert (overlay.merged / "a").read_bytes() == b"lower"
    assert stat.S_IMODE((overlay.merged / "a").stat().st_mode) == 0o640


def test_a_new_file_goes_to_the_upper(overlay: Overlay) -> None:
    """What is made in the merged view is in the upper, and the lower stays as it was."""
    (overlay.merged / "a").write_bytes(b"new")

    assert (overlay.merged / "a").read_bytes() == b"new"
    assert (overlay.upper / "a").read_bytes() == b"new"
    assert not (overlay.lower / "a").exists()


def test_writing_to_a_lower_file_copies_it_up(overlay: Overlay) -> None:
    """The first write copies the file to the upper; the lower keeps its content."""
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").write_bytes(b"lower")

    with (overlay.merged / "d" / "a").open("ab") as file:
        file.write(b" and more")

    assert (overlay.merged / "d" / "a").read_bytes() == b"lower and more"
    assert (overlay.upper / "d" / "a").read_bytes() == b"lower and more"
    assert (overlay.lower / "d" / "a").read_bytes() == b"lower"


def test_unlinking_a_lower_file_leaves_a_whiteout(overlay: Overlay) -> None:
    """A file deleted in the merged view is hidden by a whiteout in the upper layer."""
    (overlay.lower / "a").write_bytes(b"lower")

    (overlay.merged / "a").unlink()

    assert is_whiteout(overlay.upper / "a")
    assert not (overlay.merged / "a").exists()
    assert os.listdir(overlay.merged) == []
    overlay.remount()
    assert not (overlay.merged / "a").exists()


def test_a_directory_made_over_a_whiteout_is_empty(overlay: Overlay) -> None:
    """A new directory does not show what the lower has under its name."""
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").write_bytes(b"lower")
    (overlay.merged / "d" / "a").unlink()
    (overlay.merged / "d").rmdir()
    assert is_whiteout(overlay.upper / "d")

    (overlay.merged / "d").mkdir()

    assert os.listdir(overlay.merged / "d") == []
    assert os.getxattr(overlay.upper / "d", "user.overlay.opaque") == b"y"
    overlay.remount()
    assert os.listdir(overlay.merged / "d") == []


def test_a_directory_with_names_cannot_be_removed(overlay: Overlay) -> None:
    """rmdir says ENOTEMPTY for names of the lower as for those of the upper."""
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").touch()

    with pytest.raises(OSError, match="not empty"):
        (overlay.merged / "d").rmdir()


def test_names_of_all_layers_are_listed_once(overlay: Overlay) -> None:
    """A merged directory lists every name of its layers, each once."""
    (overlay.lower / "d").mkdir()
    for name in "abc":
        (overlay.lower / "d" / name).touch()
    (overlay.merged / "d" / "b").write_text("x")
    (overlay.merged / "d" / "e").write_text("x")
    (overlay.merged / "d" / "c").unlink()

    assert sorted(os.listdir(overlay.merged / "d")) == ["a", "b", "e"]
    overlay.remount()
    assert sorted(os.listdir(overlay.merged / "d")) == ["a", "b", "e"]


def test_a_lower_directory_is_renamed(overlay: Overlay) -> None:
    """A directory of the lower gets a new name without being copied, also after a remount."""
    (overlay.lower / "d" / "e").mkdir(parents=True)
    (overlay.lower / "d" / "e" / "a").write_text("deep")

    (overlay.merged / "d").rename(overlay.merged / "new")
    (overlay.merged / "new" / "e").rename(overlay.merged / "e2")

    assert (overlay.merged / "e2" / "a").read_text() == "deep"
    assert sorted(os.listdir(overlay.merged)) == ["e2", "new"]
    overlay.remount()
    assert (overlay.merged / "e2" / "a").read_text() == "deep"
    assert sorted(os.listdir(overlay.merged)) == ["e2", "new"]
    assert os.listdir(overlay.merged / "new") == []


def test_hard_links_survive_copy_up(overlay: Overlay) -> None:
    """Two names of a lower file stay one file when it is written to."""
    (overlay.lower / "a").write_text("lower")
    os.link(overlay.lower / "a", overlay.lower / "b")
    before = (overlay.merged / "a").stat()

    with (overlay.merged / "a").open("a") as file:
        file.write("+")

    for _ in range(2):
        assert (overlay.merged / "b").read_text() == "lower+"
        for name in "ab":
            after = (overlay.merged / name).stat()
            assert (after.st_ino, after.st_nlink) == (before.st_ino, 2)
        overlay.remount()
    (overlay.merged / "b").unlink()
    assert (overlay.merged / "a").stat().st_nlink == 1


def test_a_read_only_descriptor_sees_the_copy(overlay: Overlay) -> None:
    """A file opened for reading before copy-up reads what is written after it."""
    (overlay.lower / "a").write_text("old")
    with (overlay.merged / "a").open("rb", buffering=0) as reader:
        assert reader.read() == b"old"
        (overlay.merged / "a").write_text("new content")
        reader.seek(0)
        assert reader.read() == b"new content"


def test_an_unlinked_file_stays_usable(overlay: Overlay) -> None:
    """An open file without a name can be read, written and has no links."""
    (overlay.lower / "a").write_text("lower")
    for name in ("a", "b"):
        with (overlay.merged / name).open("a+b", buffering=0) as file:
            (overlay.merged / name).unlink()
            file.write(b"+")
            file.seek(0)
            assert file.read() == (b"lower+" if name == "a" else b"+")
            assert os.fstat(file.fileno()).st_nlink == 0

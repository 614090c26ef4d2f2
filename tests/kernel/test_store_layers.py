"""Layers of any content become directories in the overlay's format, and nothing else changes."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from sandbox.errors import StoreError
from sandbox.image.apply_layer import Applied, apply_layer
from sandbox.image.limits import LayerLimits
from sandbox.image.tar_stream import TarStream
from sandbox.linux.syscalls import CLONE_NEWNS, mount, unshare
from sandbox.linux.trees import remove_tree
from tests.archives import Archive
from tests.kernel.user_namespace import as_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory that layers are applied to, with a neighbour that they must not touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def apply(root: Path, archive: Archive, limits: LayerLimits | None = None) -> Applied:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stream = TarStream(iter([archive.bytes()]))
        return apply_layer(stream, descriptor, "recorded", limits or LayerLimits())
    finally:
        os.close(descriptor)


def outside_is_untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "secret"


def is_whiteout(path: Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.overlay.opaque") == b"y"
    except OSError:
        return False


def test_each_kind_of_entry_is_made(root: Path) -> None:
    """Files, directories, links and fifos have the mode, time and content of the archive."""
    applied = apply(
        root,
        Archive()
        .directory("d", mode=0o1750, mtime=1000)
        .file("d/f", b"content", mode=0o4755, mtime=2000)
        .symlink("d/s", "f", mtime=3000)
        .hard_link("d/h", "d/f")
        .fifo("d/p", mode=0o600),
    )

    assert (root / "d/f").read_bytes() == b"content"
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o4755
    assert (root / "d/f").stat().st_mtime == 2000
    assert (stat.S_IMODE((root / "d").stat().st_mode), (root / "d").stat().st_mtime) == (
        0o1750,
        1000,
    )
    assert (os.readlink(root / "d/s"), (root / "d/s").lstat().st_mtime) == ("f", 3000)
    assert (root / "d/h").samefile(root / "d/f")
    assert stat.S_ISFIFO((root / "d/p").stat().st_mode)
    assert (applied.size, applied.entries) == (7, 5)


def test_directories_without_an_entry_are_made(root: Path) -> None:
    """A file whose directories the archive does not name gets them with mode 0755."""
    apply(root, Archive().file("a/b/c"))

    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755


def test_a_directory_closed_to_its_owner_is_filled_all_the_same(root: Path) -> None:
    """A directory's mode holds once everything is in it."""
    apply(root, Archive().directory("d", mode=0o500).file("d/f").directory("d/e", mode=0))

    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o500
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0


def test_whiteouts_become_the_overlays(root: Path) -> None:
    """`.wh.x` is a character device 0:0, `.wh..wh..opq` an opaque directory."""
    apply(root, Archive().file("d/.wh.gone").file("e/.wh..wh..opq").file("e/new"))

    assert is_whiteout(root / "d/gone")
    assert opaque(root / "e")
    assert not opaque(root / "d")
    assert (root / "e/new").exists()


def test_a_whiteout_hides_lower_layers_alone(root: Path) -> None:
    """What the same layer has at the name stays, whichever comes first."""
    apply(
        root,
        Archive()
        .file(".wh.a")
        .file("a", b"new")
        .file("b", b"new")
        .file(".wh.b")
        .directory("c")
        .file(".wh.c")
        .file(".wh.d")
        .file("d/f"),
    )

    assert (root / "a").read_bytes() == (root / "b").read_bytes() == b"new"
    assert opaque(root / "c")
    assert opaque(root / "d")
    assert (root / "d/f").exists()


def test_a_later_entry_takes_the_place_of_an_earlier_one(root: Path) -> None:
    """Names that come twice end as the last of them; directories are merged."""
    apply(
        root,
        Archive()
        .directory("d")
        .file("d/kept")
        .directory("d")
        .file("x", b"1")
        .file("x", b"2")
        .directory("y")
        .file("y/lost")
        .symlink("y", "x")
        .symlink("z", "x")
        .directory("z"),
    )

    assert (root / "d/kept").exists()
    assert (root / "x").read_bytes() == b"2"
    assert os.readlink(root / "y") == "x"
    assert (root / "z").is_dir()
    assert not (root / "z").is_symlink()


@pytest.mark.parametrize("name", ["../outside/new", "a/../../outside/new", "..", "a/.."])
def test_names_with_dot_dot_are_refused(root: Path, name: str) -> None:
    """A name that climbs refuses the whole layer."""
    with pytest.raises(StoreError, match="layer refused"):
        apply(root, Archive().directory("a").file(name))

    assert outside_is_untouched(root)


def test_absolute_names_are_below_the_root(root: Path) -> None:
    """A leading slash means the layer's root."""
    apply(root, Archive().file(f"{root.parent}/outside/new"))

    assert outside_is_untouched(root)
    assert (root / str(root.parent)[1:] / "outside/new").exists()


@pytest.mark.parametrize("target", ["../outside", "/outside", "../../../../outside"])
def test_symbolic_links_end_at_the_root(root: Path, target: str) -> None:
    """Writing through a link of the archive stays below the root, as in a chroot."""
    archive = Archive().directory("outside").symlink("l", target).file("l/new", b"x")

    apply(root, archive)

    assert outside_is_untouched(root)
    assert (root / "outside/new").read_bytes() == b"x"


def test_a_file_is_never_written_through_a_link(root: Path) -> None:
    """A file in the place of a link replaces the link."""
    apply(root, Archive().symlink("f", "../outside/secret").file("f", b"mine"))

    assert outside_is_untouched(root)
    assert (root / "f").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "target", ["../outside/secret", "/../outside/secret", "l/secret", "nothing"]
)
def test_hard_links_to_elsewhere_are_refused(root: Path, target: str) -> None:
    """A hard link leads to a file of the same layer or nowhere."""
    archive = Archive().symlink("l", "../outside").hard_link("h", target)

    with pytest.raises(StoreError, match="layer refused"):
        apply(root, archive)

    assert (root.parent / "outside/secret").stat().st_nlink == 1


def test_a_hard_link_to_a_symbolic_link_is_to_the_link(root: Path) -> None:
    """What a link leads to is not linked."""
    secret = root.parent / "outside/secret"

    apply(root, Archive().symlink("s", str(secret)).hard_link("h", "s"))

    assert os.readlink(root / "h") == str(secret)
    assert secret.stat().st_nlink == 1


def test_a_link_through_itself_is_refused(root: Path) -> None:
    """A loop of links is an error, not a hang."""
    with pytest.raises(StoreError, match="layer refused"):
        apply(root, Archive().symlink("a", "b").symlink("b", "a").file("a/f"))


def test_device_nodes_are_left_out_and_told(root: Path) -> None:
    """No device is made, also not the one that would be a whiteout."""
    applied = apply(root, Archive().device("null", 1, 3).device("wh", 0, 0).file("f"))

    assert os.listdir(root) == ["f"]
    assert applied.left_out == {"device node": 2}
    assert applied.describe_left_out() == "2 device nodes (null, wh)"


def test_marks_of_overlays_are_left_out(root: Path) -> None:
    """An archive has no say in what the overlay, or the record of owners, means."""
    names = [
        "user.overlay.redirect",
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "user.containers.override_stat",
    ]
    records = {f"SCHILY.xattr.{name}": "y" for name in names}

    applied = apply(root, Archive().directory("d", pax_headers=records))

    assert os.listxattr(root / "d") == []
    assert applied.left_out == {"reserved attribute": len(names)}


def test_attributes_of_users_are_kept(root: Path) -> None:
    """user.* attributes are the image's own."""
    apply(root, Archive().file("f", pax_headers={"SCHILY.xattr.user.note": "hi"}))

    assert os.getxattr(root / "f", "user.note") == b"hi"


def test_names_of_any_bytes_are_kept(root: Path) -> None:
    """Newlines, escapes and bytes that are no UTF-8 are names like others."""
    name = "a\n\x1b[31m\udcff"

    apply(root, Archive(tarfile.GNU_FORMAT).file(name, b"x"))

    assert os.listdir(root) == [name]


def test_errors_show_names_without_control_characters(root: Path) -> None:
    """What is printed of a hostile name can't steer the terminal."""
    with pytest.raises(StoreError) as refusal:
        apply(root, Archive().file("\x1b]0;title\x07/.."))

    assert "\x1b" not in (refusal.value.detail or "")


def test_owners_are_recorded_where_they_cannot_be_set(root: Path) -> None:
    """With a single id the owner is kept as containers-storage keeps it."""
    apply(root, Archive().file("f", uid=33, gid=42, mode=0o2755).directory("d", uid=1, gid=0))

    assert os.getxattr(root / "f", "user.containers.override_stat") == b"33:42:2755:file"
    assert os.getxattr(root / "d", "user.containers.override_stat") == b"1:0:755:dir"


def test_more_entries_than_allowed_are_refused(root: Path) -> None:
    """A bomb by count ends at the limit."""
    archive = Archive()
    for number in range(20):
        archive.file(str(number))

    with pytest.raises(StoreError, match="layer refused"):
        apply(root, archive, LayerLimits(entries=10))


def test_links_alone_do_not_fill_the_disk(root: Path) -> None:
    """Long symbolic links count as little as files of no bytes, and take space all the same."""
    archive = Archive()
    for number in range(9000):
        archive.symlink(str(number), "x" * 4000)

    def applied_to_a_small_disk() -> list[object]:
        unshare(CLONE_NEWNS)
        mount("tmpfs", root, "tmpfs", 0, "size=32m")
        try:
            apply(root, archive)
        except StoreError as refusal:
            status = os.statvfs(root)
            return [str(refusal), status.f_bavail > status.f_blocks // 100]
        return []

    assert as_root(applied_to_a_small_disk) == ["no space left for images", True]


def test_names_too_long_for_the_file_system_are_refused(root: Path) -> None:
    """A name of more than 255 bytes is an error that shows it, cut."""
    with pytest.raises(StoreError) as refusal:
        apply(root, Archive().file("x" * 300))

    assert "File name too long" in (refusal.value.detail or "")


def test_a_tree_deeper_than_there_are_descriptors_is_removed(root: Path) -> None:
    """What a hostile layer nested can be removed again, links not followed, modes no hindrance."""
    deep = "/".join(["d"] * 1500)
    apply(root, Archive().file(f"{deep}/f").symlink("d/l", "../../outside"))
    os.chmod(root / "d/d", 0)

    remove_tree(root)

    assert not root.exists()
    assert outside_is_untouched(root)

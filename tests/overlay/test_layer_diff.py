"""An upper becomes a layer that gives the same tree wherever it is applied."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuse_overlay.syscalls import RENAME_EXCHANGE, renameat2
from sandbox.image.apply_layer import Applied, apply_layer
from sandbox.image.layer_diff import LayerDiff, Upper
from sandbox.image.limits import LayerLimits
from sandbox.image.ownership import OVERRIDE
from sandbox.image.tar_stream import TarStream

from .conftest import Overlay
from .test_driver_exchange import change, fill, other
from .test_model import fill_bottom, fill_top

MakeOverlay = Callable[..., Overlay]
NAMES = ("a", "b", "c", "d", "e")


def layer_of(overlay: Overlay, **options: Any) -> tuple[bytes, LayerDiff]:
    """Unmount, and return the layer of the upper."""
    overlay.close()
    overlay.cell = None
    lower = tuple(str(path) for path in overlay.lowers)
    diff = LayerDiff(Upper(str(overlay.upper), str(overlay.work), lower), **options)
    return b"".join(diff), diff


def names_of(layer: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return tar.getnames()


def apply(layer: bytes, root: Path) -> Applied:
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return apply_layer(TarStream(iter([layer])), descriptor, "recorded", LayerLimits())
    finally:
        os.close(descriptor)


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree, by path; the names of one file have one number."""
    seen: dict[str, tuple[object, ...]] = {}
    files: dict[int, int] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
            if name != OVERRIDE  # owners of the applied layer can only be recorded here
        }
        number = None
        if not stat.S_ISDIR(status.st_mode):
            number = files.setdefault(status.st_ino, len(files))
        seen[str(path.relative_to(root))] = (
            status.st_mode,
            int(status.st_mtime),
            content,
            attributes,
            number,
        )
    return seen


def view_of(layer: bytes, overlay: Overlay, make: MakeOverlay) -> dict[str, tuple[object, ...]]:
    """The tree that *layer* makes of the lowers of *overlay*."""
    view = make(read_only=True)
    view.lower.rmdir()
    apply(layer, view.lower)
    view.lowers += overlay.lowers
    return look(view.merged)


def test_random_changes_give_the_same_tree_from_their_layer(make_overlay: MakeOverlay) -> None:
    """Whatever was done, also by renames of directories and to hard links, the layer repeats it."""
    for seed in range(int(os.environ.get("SBX_LAYER_DIFF_ROUNDS", "12"))):
        # A file that goes with its renamed directory loses the names that it has elsewhere below.
        redirects = seed % 2 == 0
        overlay = make_overlay(lowers=2, redirect_dir=redirects)
        plain = overlay.base / "plain"
        plain.mkdir()
        for root in (overlay.lowers[1], plain):
            fill_bottom(root)
        fill_top(overlay.lowers[1], overlay.lowers[0], plain)
        for step in range(40):
            _random_change(overlay.merged, random.Random(seed * 1000 + step))
        overlay.remount()
        wanted = look(overlay.merged)

        layer, diff = layer_of(overlay)

        found = view_of(layer, overlay, make_overlay)
        compared = slice(4 if redirects else 5)
        assert {path: seen[compared] for path, seen in found.items()} == {
            path: seen[compared] for path, seen in wanted.items()
        }, f"seed {seed}"
        assert not diff.left_out.left_out


def _random_change(root: Path, chance: random.Random) -> None:
    """Do something; what fails changes nothing."""

    def path() -> Path:
        return root.joinpath(*chance.choices(NAMES, k=chance.randint(1, 3)))

    one, two = path(), path()
    changes: list[Callable[[], object]] = [
        lambda: one.is_fifo() or one.write_bytes(chance.randbytes(chance.choice((3, 70_000)))),
        lambda: one.mkdir(),
        lambda: one.unlink(),
        lambda: one.rmdir(),
        lambda: one.is_dir() and not one.is_symlink() and shutil.rmtree(one),
        lambda: one.rename(two),
        lambda: one.rename(two),
        lambda: renameat2(-100, bytes(one), -100, bytes(two), RENAME_EXCHANGE),
        lambda: os.link(one, two, follow_symlinks=False),
        lambda: one.symlink_to(chance.choice(NAMES)),
        lambda: os.mkfifo(one),
        lambda: one.chmod(chance.choice((0o700, 0o750, 0o2755))),
        lambda: os.setxattr(one, "user.note", chance.randbytes(5)),
    ]
    try:
        chance.choice(changes)()
    except OSError:
        pass


def test_whiteouts_opaque_directories_and_nothing_else(overlay: Overlay) -> None:
    """A layer names what was changed: not what was made and removed again."""
    fill(overlay.lower)
    change(overlay.merged)
    (overlay.merged / "gone").write_text("")
    (overlay.merged / "gone").unlink()

    layer, _ = layer_of(overlay)

    assert names_of(layer) == [
        "d",
        "d/.wh.a",
        "d/b",
        "e",
        "e/.wh..wh..opq",
        "e/new",
        ".wh.keep",
        "renamed",
    ]


def test_a_renamed_directory_is_written_out_in_full(overlay: Overlay) -> None:
    """What a redirect leads to is in the layer, and a whiteout at the old place."""
    fill(overlay.lower)
    (overlay.merged / "d").rename(overlay.merged / "moved")

    layer, _ = layer_of(overlay)

    assert names_of(layer) == [".wh.d", "moved", "moved/a", "moved/b"]


def test_untouched_names_of_a_copied_file_are_links(overlay: Overlay) -> None:
    """A hard link that leads to the copy of another name is a link in the layer."""
    (overlay.lower / "d").mkdir(mode=0o750)
    (overlay.lower / "d/one").write_text("old")
    os.link(overlay.lower / "d/one", overlay.lower / "two")
    (overlay.merged / "two").write_text("new")

    layer, _ = layer_of(overlay)

    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["d", "d/one", "two"]
        assert tar.getmember("d").mode == 0o750
        assert (tar.getmember("two").linkname, tar.getmember("two").islnk()) == ("d/one", True)
        content = tar.extractfile("d/one")
        assert content is not None
        assert content.read() == b"new"


def test_the_same_tree_gives_the_same_bytes(make_overlay: MakeOverlay) -> None:
    """With SOURCE_DATE_EPOCH a layer does not tell when or in which order it was made."""
    layers = []
    for names in (NAMES, NAMES[::-1]):
        overlay = make_overlay()
        for name in names:
            (overlay.merged / name).mkdir()
            (overlay.merged / name / "f").write_text(name)

        layers.append(layer_of(overlay, epoch=1_000_000)[0])

    assert layers[0] == layers[1]
    with tarfile.open(fileobj=io.BytesIO(layers[0])) as tar:
        assert {member.mtime for member in tar} == {1_000_000}


def test_what_users_see_is_written_not_what_is_stored(overlay: Overlay) -> None:
    """Escaped attributes and a user's own device 0:0 get their meaning back; marks are left out."""
    (overlay.merged / "f").write_text("x")
    os.setxattr(overlay.merged / "f", "user.overlay.opaque", b"mine")
    os.setxattr(overlay.merged / "f", "user.overlay.origin", b"\xff\n=\0")
    os.mknod(overlay.merged / "device", stat.S_IFCHR | 0o600, 0)

    layer, _ = layer_of(overlay)

    stream = TarStream(iter([layer]))
    entries = {entry.name: entry for entry in stream}
    assert entries[b"device"].kind == "device"
    assert entries[b"f"].xattrs == {
        "user.overlay.opaque": b"mine",
        "user.overlay.origin": b"\xff\n=\0",
    }


def test_names_that_a_layer_cannot_have_are_told(overlay: Overlay) -> None:
    """A user's own `.wh.x` would be a whiteout in the layer: it is left out, and said."""
    (overlay.merged / ".wh.x").write_text("mine")
    (overlay.merged / "f").write_text("x")

    layer, diff = layer_of(overlay)

    assert names_of(layer) == ["f"]
    assert diff.left_out.left_out == {"name that begins with .wh.": 1}


def test_recorded_owners_are_written(overlay: Overlay) -> None:
    """Where owners could only be recorded, the layer has them all the same."""
    for name, text in (("f", b"33:42:4755:file"), ("null", b"1:2:600:char-1-3")):
        (overlay.upper / name).write_text("")
        os.setxattr(overlay.upper / name, "user.containers.override_stat", text)

    layer, _ = layer_of(overlay)

    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        file, null = tar.getmember("f"), tar.getmember("null")
    assert (file.uid, file.gid, file.mode, file.pax_headers) == (33, 42, 0o4755, {})
    assert (null.ischr(), null.devmajor, null.devminor, null.uid) == (True, 1, 3, 1)


def test_sparse_files_are_written_with_their_holes(overlay: Overlay, tmp_path: Path) -> None:
    """A file of a gigabyte with a page in it takes no gigabyte in the layer."""
    with open(overlay.upper / "sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"page")

    layer, _ = layer_of(overlay)
    apply(layer, tmp_path / "applied")

    assert len(layer) < 1 << 20
    with open(tmp_path / "applied/sparse", "rb") as file:
        file.seek(1 << 29)
        assert (file.read(5), os.fstat(file.fileno()).st_size) == (b"page\0", 1 << 30)
        assert os.fstat(file.fileno()).st_blocks < 1 << 10
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getmember("sparse").size == 1 << 30


def test_long_names_large_numbers_and_any_bytes_are_kept(overlay: Overlay) -> None:
    """What does not fit the header is in an extended one that others read, too."""
    deep = "/".join(["n" * 200] * 3)
    (overlay.upper / deep).mkdir(parents=True)
    os.symlink("t" * 300, overlay.upper / deep / "link")
    os.mkdir(os.fsencode(overlay.upper) + b"/\xff\n")
    os.utime(overlay.upper / deep / "link", (0, -5), follow_symlinks=False)

    layer, _ = layer_of(overlay)

    with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as tar:
        link = tar.getmember(f"{deep}/link")
        assert (link.linkname, link.mtime) == ("t" * 300, -5)
        assert "\udcff\n" in tar.getnames()


@pytest.mark.parametrize("driver", ["kernel", "fuse-overlayfs"])
def test_uppers_of_other_drivers_are_read(
    overlay: Overlay, make_overlay: MakeOverlay, driver: str
) -> None:
    """What the kernel's overlay or fuse-overlayfs left gives the same layer."""
    fill(overlay.lower)
    wanted = other(overlay, driver, lambda root: [change(root), look(root)])[1]

    layer, _ = layer_of(overlay)

    found = view_of(layer, overlay, make_overlay)
    assert {path: seen[:3] for path, seen in found.items()} == {
        path: seen[:3] for path, seen in wanted.items()
    }


def test_the_working_directory_is_as_before(overlay: Overlay) -> None:
    """Reading a layer leads the process away only until its end."""
    (overlay.merged / "f").write_text("x")
    before = os.getcwd()

    layer_of(overlay)

    assert os.getcwd() == before

"""Images made of another and an upper directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sandbox.errors import NotFound, StoreError
from sandbox.image.check import check
from sandbox.image.commit import Change, commit
from sandbox.image.config import ImageConfig
from sandbox.image.layer_diff import Upper
from sandbox.image.names import name_for
from sandbox.image.store import Image, Store
from sandbox.paths import Paths
from tests.archives import rootfs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    names = ("data", "run", "config", "cache")
    return Store(Paths(*(tmp_path / name for name in names)))


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Image:
    (tmp_path / "rootfs.tar").write_bytes(rootfs())
    return store.import_rootfs(tmp_path / "rootfs.tar", "base", changes=["CMD sh", "ENV A=1"])


def upper_of(base: Image | None, tmp_path: Path) -> Upper:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    return Upper(str(tmp_path / "upper"), str(tmp_path / "work"), base.lower if base else ())


def test_a_commit_adds_a_layer_and_an_entry_of_history(
    store: Store, base: Image, tmp_path: Path
) -> None:
    """The new image has the parent's layers, the upper's on top, and says who made it how."""
    upper = upper_of(base, tmp_path)
    (tmp_path / "upper/new").write_text("new")
    os.mkdir(tmp_path / "upper/etc")
    os.mknod(tmp_path / "upper/etc/motd", stat.S_IFCHR, 0)
    change = Change(ImageConfig(user="1"), "touch new", "a comment", "an author", epoch=1000)

    image = commit(store, base.id, change, upper, name_for("my:1")).image

    assert image == store.resolve("my:1")
    assert image.lower[1:] == base.lower
    assert (Path(image.lower[0]) / "new").read_text() == "new"
    hidden = os.lstat(Path(image.lower[0]) / "etc/motd")
    assert stat.S_ISCHR(hidden.st_mode)
    assert (image.config, image.created) == (ImageConfig(user="1"), 1000.0)
    assert image.history[:-1] == base.history
    assert image.history[-1] == {
        "created": "1970-01-01T00:16:40Z",
        "author": "an author",
        "created_by": "touch new",
        "comment": "a comment",
    }
    assert store.document(image.id).author == "an author"
    assert check(store) == []


def test_a_step_that_changes_no_file_adds_no_layer(store: Store, base: Image) -> None:
    """Without an upper there is a new configuration alone."""
    image = commit(store, base.id, Change(ImageConfig(user="1"))).image

    assert (image.lower, image.names) == (base.lower, ())
    assert image.history[-1]["empty_layer"] is True
    assert store.find(image.id).config.user == "1"


def test_an_image_of_nothing_but_the_upper(store: Store, tmp_path: Path) -> None:
    """Without a parent the upper is all (`FROM scratch`)."""
    upper = upper_of(None, tmp_path)
    (tmp_path / "upper/f").write_text("x")

    image = commit(store, None, Change(ImageConfig()), upper, name_for("mine")).image

    assert len(image.lower) == 1
    assert os.listdir(image.lower[0]) == ["f"]


def test_the_same_step_at_the_same_time_is_the_same_image(
    store: Store, base: Image, tmp_path: Path
) -> None:
    """With SOURCE_DATE_EPOCH a build can be repeated to the same id."""
    upper = upper_of(base, tmp_path)
    (tmp_path / "upper/f").write_text("x")
    change = Change(ImageConfig(), epoch=1000)

    first = commit(store, base.id, change, upper).image
    os.utime(tmp_path / "upper/f", (5000, 5000))
    second = commit(store, base.id, change, upper).image

    assert first.id == second.id


def test_what_a_failed_commit_began_is_gone(store: Store, base: Image, tmp_path: Path) -> None:
    """A commit that is refused leaves the store as it was."""
    upper = upper_of(base, tmp_path)
    (tmp_path / "upper/f").write_bytes(bytes(100_000))
    store.layers.limits = type(store.layers.limits)(size=50_000)

    with pytest.raises(StoreError):
        commit(store, base.id, Change(ImageConfig()), upper, name_for("my"))
    with pytest.raises(NotFound):
        commit(store, "nothing", Change(ImageConfig()))

    assert [image.names for image in store.list()] == [base.names]
    assert len(store.blobs.all()) == 3
    assert os.listdir(store.layout.staging) == []

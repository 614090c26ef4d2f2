"""Archives of images go to docker's world and come from it."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from sandbox.errors import StoreError
from sandbox.image.content import file_chunks
from sandbox.image.load import Loaded, load
from sandbox.image.reference import parse_reference
from sandbox.image.save import Saved, save
from sandbox.image.store import Store
from sandbox.paths import Paths
from tests.archives import Archive, rootfs


def open_store(directory: Path) -> Store:
    return Store(Paths(*(directory / name for name in ("data", "run", "config", "cache"))))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the image `my:1` of one layer."""
    store = open_store(tmp_path / "mine")
    (tmp_path / "rootfs.tar").write_bytes(rootfs())
    store.import_rootfs(tmp_path / "rootfs.tar", "my:1", changes=["ENV A=b"])
    return store


def save_to(store: Store, path: Path, *names: str) -> None:
    images = [
        Saved(store.manifest(name), store.diff_ids(name), (parse_reference(name),))
        for name in names
    ]
    with path.open("wb") as file:
        save(store, images, file)


def load_from(store: Store, path: Path) -> list[Loaded]:
    with path.open("rb") as file:
        return load(store, file_chunks(file.fileno()))


def run(*command: str | Path) -> str:
    if not shutil.which(str(command[0])):
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_saved_loads_again(store: Store, tmp_path: Path) -> None:
    """Id, name, configuration and content survive the archive."""
    store.tag("my:1", "team/other:2")
    save_to(store, tmp_path / "saved.tar", "my:1")
    other = open_store(tmp_path / "other")

    [loaded] = load_from(other, tmp_path / "saved.tar")

    image = other.resolve("my:1")
    assert loaded.id == image.id == store.resolve("my:1").id
    assert image.names == ("docker.io/library/my:1",)
    assert image.config.env == (("A", "b"),)
    assert (Path(image.lower[0]) / "etc/motd").read_text() == "hello"


def test_images_share_layers_in_an_archive(store: Store, tmp_path: Path) -> None:
    """Content that two images have is written once."""
    store.import_rootfs(tmp_path / "rootfs.tar", "second")
    save_to(store, tmp_path / "saved.tar", "my:1", "second")

    with tarfile.open(tmp_path / "saved.tar") as archive:
        names = archive.getnames()

    assert len(names) == len(set(names))
    assert len(load_from(open_store(tmp_path / "other"), tmp_path / "saved.tar")) == 2


def test_skopeo_reads_what_was_saved(store: Store, tmp_path: Path) -> None:
    """The archive is docker's and an OCI layout at once."""
    save_to(store, tmp_path / "saved.tar", "my:1")
    (tmp_path / "layout").mkdir()
    run("tar", "-xf", tmp_path / "saved.tar", "-C", tmp_path / "layout")

    for number, source in enumerate(
        (f"docker-archive:{tmp_path}/saved.tar", f"oci:{tmp_path}/layout")
    ):
        inspected = json.loads(run("skopeo", "inspect", "--config", source))
        assert inspected["config"]["Env"] == ["A=b"]
        run("skopeo", "--insecure-policy", "copy", source, f"dir:{tmp_path}/copy{number}")


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_saved_loads(store: Store, tmp_path: Path, form: str) -> None:
    """Both archive formats of the containers tools load under their names."""
    source = f"oci:{store.paths.storage}:docker.io/library/my:1"
    target = f"{form}:{tmp_path}/theirs.tar:docker.io/library/my:1"
    run("skopeo", "--insecure-policy", "copy", source, target)
    other = open_store(tmp_path / "other")

    [loaded] = load_from(other, tmp_path / "theirs.tar")

    assert [str(name) for name in loaded.names] == ["docker.io/library/my:1"]
    assert (Path(other.resolve("my:1").lower[0]) / "etc/motd").read_text() == "hello"


def test_podman_loads_what_was_saved_and_the_other_way_round(store: Store, tmp_path: Path) -> None:
    """podman takes our archive, and its own archive of the image loads here."""
    save_to(store, tmp_path / "saved.tar", "my:1")
    runroot = tempfile.mkdtemp(prefix="sbx-podman-")  # podman wants a short path
    podman = ["podman", "--root", f"{tmp_path}/root", "--runroot", runroot]

    try:
        output = run(*podman, "load", "-q", "-i", tmp_path / "saved.tar")
        run(*podman, "save", "-q", "-o", tmp_path / "theirs.tar", "docker.io/library/my:1")
    finally:
        subprocess.run([*podman, "system", "reset", "-f"], capture_output=True, check=False)
        shutil.rmtree(runroot, ignore_errors=True)

    assert "docker.io/library/my:1" in output
    other = open_store(tmp_path / "other")
    [loaded] = load_from(other, tmp_path / "theirs.tar")
    assert loaded.names == (parse_reference("my:1"),)
    assert other.resolve("my:1").config.env == (("A", "b"),)


def test_old_archives_with_linked_layers_load(tmp_path: Path) -> None:
    """docker before 25 linked layers that came twice, and put documents last."""
    layer = rootfs()
    import hashlib

    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
    }
    manifest = [{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["a/layer.tar", "b/l.tar"]}]
    archive = (
        Archive()
        .directory("a")
        .file("a/layer.tar", layer)
        .symlink("b/l.tar", "../a/layer.tar")
        .file("c.json", json.dumps(config).encode())
        .file("manifest.json", json.dumps(manifest).encode())
    )
    (tmp_path / "old.tar").write_bytes(gzip.compress(archive.bytes()))
    store = open_store(tmp_path / "store")

    [loaded] = load_from(store, tmp_path / "old.tar")

    assert store.resolve("old:1").id == loaded.id
    assert len(store.resolve("old:1").lower) == 2


@pytest.mark.parametrize(
    "archive",
    [
        Archive().file("x"),
        Archive().file("manifest.json", b"{}"),
        Archive().file("manifest.json", b'[{"Config": "missing.json", "Layers": []}]'),
        Archive().file("manifest.json", b'[{"Config": "../../etc/passwd", "Layers": []}]'),
        Archive().file("index.json", b'{"manifests": [{"digest": "../x", "size": 1}]}'),
        Archive()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("manifest.json", b'[{"Config": "a", "Layers": []}]'),
        Archive()
        .file("c", b'{"rootfs": {"diff_ids": []}}')
        .file("l", rootfs())
        .file("manifest.json", b'[{"Config": "c", "Layers": ["l"]}]'),
    ],
    ids=["no image", "object", "missing", "climbing", "digest", "loop", "diff_ids"],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, archive: Archive) -> None:
    """An archive that does not fit together is a clear error and no image."""
    (tmp_path / "bad.tar").write_bytes(archive.bytes())
    store = open_store(tmp_path / "store")

    with pytest.raises(StoreError):
        load_from(store, tmp_path / "bad.tar")

    assert store.list() == []


def test_a_stream_is_enough_to_save_to(store: Store, tmp_path: Path) -> None:
    """Saving never seeks: `sbx save | ssh …` works."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    images = [Saved(store.manifest("my:1"), store.diff_ids("my:1"), ())]

    save(store, images, pipe)  # type: ignore[arg-type]

    (tmp_path / "piped.tar").write_bytes(pipe.data)
    [loaded] = load_from(open_store(tmp_path / "other"), tmp_path / "piped.tar")
    assert loaded.names == ()

"""The store keeps what it was given, also when many use it and after kill -9."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from sandbox.errors import Conflict, InvalidSpec, NotFound, StoreError
from sandbox.image.check import check
from sandbox.image.garbage import InUse
from sandbox.image.store import Store
from sandbox.paths import Paths
from tests.archives import Archive, rootfs
from tests.kernel.killed import wait_or_kill


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def open_store(directory: Path) -> Store:
    names = ("data", "run", "config", "cache")
    return Store(Paths(*(directory / name for name in names)))


def archive_file(tmp_path: Path, data: bytes, name: str = "rootfs.tar") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_an_imported_archive_is_an_image(store: Store, tmp_path: Path) -> None:
    """Import gives an image whose lower is the archive's tree."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "my", changes=["CMD sh"])

    found = store.resolve("my")
    assert found == image
    assert found.names == ("docker.io/library/my:latest",)
    assert found.config.cmd == ("/bin/sh", "-c", "sh")
    [lower] = found.lower
    assert (Path(lower) / "etc/motd").read_text() == "hello"
    assert found.size == 5


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_packed_archives_are_the_same_layer(
    store: Store, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """A layer is known by its unpacked content, however it was packed."""
    plain = store.import_rootfs(archive_file(tmp_path, rootfs()), "plain")

    packed = store.import_rootfs(archive_file(tmp_path, pack(rootfs()), "packed"), "packed")

    assert packed.lower == plain.lower
    assert packed.id != plain.id or packed.created == plain.created


def test_import_reads_from_a_descriptor(store: Store, tmp_path: Path) -> None:
    """`sbx import -` takes a pipe."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writing, rootfs()), os.close(writing)))
    thread.start()

    image = store.import_rootfs(reading, "piped")

    thread.join()
    os.close(reading)
    assert image.size == 5


def test_images_are_found_by_name_id_and_the_beginning_of_it(store: Store, tmp_path: Path) -> None:
    """All of docker's ways to name an image lead to it."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "team/app:1")

    digest = image.digest
    for reference in (
        "team/app:1",
        "docker.io/team/app:1",
        image.id,
        image.id[7:],
        image.id[7:15],
        f"team/app@{digest}",
    ):
        assert store.resolve(reference).id == image.id


@pytest.mark.parametrize("reference", ["nothing", "team/app", "deadbeef", "sha256:" + "0" * 64])
def test_what_is_not_there_is_said_with_a_hint(
    store: Store, tmp_path: Path, reference: str
) -> None:
    """An unknown reference raises NotFound and tells where to look."""
    store.import_rootfs(archive_file(tmp_path, rootfs()), "team/app:1")

    with pytest.raises(NotFound) as missing:
        store.resolve(reference)

    assert "sbx images" in (missing.value.hint or "")


def test_a_name_moves_and_the_old_image_stays_without(store: Store, tmp_path: Path) -> None:
    """Importing under a name in use leaves the older image dangling, as in docker."""
    old = store.import_rootfs(archive_file(tmp_path, rootfs("old")), "my")

    new = store.import_rootfs(archive_file(tmp_path, rootfs("new"), "new.tar"), "my")

    assert store.resolve("my").id == new.id
    assert store.resolve(old.id).names == ()


def test_images_of_the_same_content_share_their_layer(store: Store, tmp_path: Path) -> None:
    """A diff_id is unpacked once; removing one image leaves the other whole."""
    path = archive_file(tmp_path, rootfs())
    first = store.import_rootfs(path, "first")
    second = store.import_rootfs(path, "second", changes=["USER 1"])

    store.remove("first")

    assert first.lower == second.lower
    assert (Path(store.resolve("second").lower[0]) / "etc/motd").exists()


def test_the_last_name_takes_the_image_with_it(store: Store, tmp_path: Path) -> None:
    """rmi removes a name, and blobs and layers with the last one."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "a")
    store.tag("a", "b")

    first = store.remove("a")
    second = store.remove("b")

    assert (first.untagged, first.deleted) == (("docker.io/library/a:latest",), ())
    assert second.deleted == (image.id,)
    assert second.freed > 0
    assert os.listdir(store.blobs.directory) == []
    assert os.listdir(store.layers.directory) == []


def test_an_image_in_use_is_not_removed(store: Store, tmp_path: Path) -> None:
    """Without force a container's image stays; with force the container's layers do."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "a")
    used = InUse(frozenset({image.id}), frozenset(image.lower))

    with pytest.raises(Conflict):
        store.remove("a", in_use=lambda: used)
    store.remove("a", force=True, in_use=lambda: used)

    assert Path(image.lower[0]).is_dir()
    with pytest.raises(NotFound):
        store.resolve("a")
    store.collect()
    assert not Path(image.lower[0]).exists()


def test_an_id_with_several_names_needs_force(store: Store, tmp_path: Path) -> None:
    """rmi ID of an image with two names asks for --force, as docker does."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "a")
    store.tag("a", "b")

    with pytest.raises(Conflict):
        store.remove(image.id)

    assert len(store.remove(image.id, force=True).untagged) == 2


def test_prune_removes_what_has_no_name(store: Store, tmp_path: Path) -> None:
    """Dangling images go, named ones only with everything, used ones never."""
    old = store.import_rootfs(archive_file(tmp_path, rootfs("old")), "my")
    new = store.import_rootfs(archive_file(tmp_path, rootfs("new"), "n.tar"), "my")
    used = InUse(images=frozenset({new.id}))

    assert store.prune().deleted == (old.id,)
    assert store.prune(everything=True, in_use=lambda: used).deleted == ()
    assert store.prune(everything=True).deleted == (new.id,)


def test_the_builtin_image_is_the_machine_without_its_people(store: Store) -> None:
    """`host` shows the root without homes, mounts and what services keep."""
    image = store.resolve("host")

    assert (image.lower, image.builtin, image.id) == (("/",), True, "")
    for path in ("/home", "/root", "/run", "/tmp", "/var/tmp", "/proc", "/sys", "/dev"):
        assert not os.path.exists(path) or path in image.hidden
    home = os.path.realpath(os.path.expanduser("~"))
    assert home == "/" or any(f"{home}/".startswith(f"{path}/") for path in image.hidden)
    data = os.path.realpath(store.paths.data)
    assert any(f"{data}/".startswith(f"{path}/") for path in image.hidden)


def test_the_builtin_name_cannot_be_taken(store: Store, tmp_path: Path) -> None:
    """No image is imported as `host`, and `host` is not removed."""
    with pytest.raises(InvalidSpec):
        store.import_rootfs(archive_file(tmp_path, rootfs()), "host")
    with pytest.raises(Conflict):
        store.remove("host", force=True)


def test_a_lost_layer_is_unpacked_again(store: Store, tmp_path: Path) -> None:
    """Layers are only a copy: resolve makes what is missing."""
    image = store.import_rootfs(archive_file(tmp_path, rootfs()), "a")
    store.layers.remove(Path(image.lower[0]).name)

    assert store.resolve("a").lower == image.lower
    assert (Path(image.lower[0]) / "etc/motd").read_text() == "hello"


def test_a_damaged_blob_is_never_unpacked(store: Store, tmp_path: Path) -> None:
    """Content that is not what its digest says is refused."""
    image = store.import_rootfs(archive_file(tmp_path, gzip.compress(rootfs())), "a")
    store.layers.remove(Path(image.lower[0]).name)
    blob = store.blobs.path(store.manifest("a").layers[0].digest)
    blob.chmod(0o600)
    blob.write_bytes(gzip.compress(rootfs("other")))

    with pytest.raises(StoreError):
        store.resolve("a")

    assert os.listdir(store.layers.directory) == []


def test_a_refused_archive_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """An import that fails leaves no image, blob or layer."""
    hostile = Archive().file("good", b"x" * 5000).file("../../evil").bytes()

    with pytest.raises(StoreError):
        store.import_rootfs(archive_file(tmp_path, hostile), "a")

    assert store.list() == []
    assert os.listdir(store.blobs.directory) == []
    assert os.listdir(store.layers.directory) == []
    assert os.listdir(store.layout.staging) == []


@pytest.mark.parametrize("data", [b"", b"not a tar" * 100, b"\x1f\x8b\x08broken"])
def test_what_is_no_archive_is_refused(store: Store, tmp_path: Path, data: bytes) -> None:
    """Anything else than a tar archive is an error."""
    with pytest.raises(StoreError):
        store.import_rootfs(archive_file(tmp_path, data), "a")


def test_a_check_finds_and_repairs_what_the_disk_lost(store: Store, tmp_path: Path) -> None:
    """Damaged and missing blobs are found; with repair their images go, and the rest stays."""
    store.import_rootfs(archive_file(tmp_path, rootfs("1")), "damaged")
    store.import_rootfs(archive_file(tmp_path, rootfs("2")), "missing")
    store.import_rootfs(archive_file(tmp_path, rootfs("3")), "whole")
    assert check(store) == []
    store.blobs.path(store.manifest("damaged").layers[0].digest).write_bytes(b"x")
    store.blobs.path(store.manifest("missing").layers[0].digest).unlink()
    (store.layout.staging / "blob-left").write_bytes(b"x")

    found = check(store)
    repaired = check(store, repair=True)

    assert len(found) == len(repaired) == 4  # damaged is a blob and an image
    assert [image.names for image in store.list()] == [("docker.io/library/whole:latest",)]
    assert check(store) == []


def test_the_files_are_an_oci_layout(store: Store, tmp_path: Path) -> None:
    """index.json lists the image under its name in full."""
    store.import_rootfs(archive_file(tmp_path, rootfs()), "a")

    root = store.paths.storage
    index = json.loads((root / "index.json").read_text())
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    [entry] = index["manifests"]
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": "docker.io/library/a:latest"
    }


def test_two_imports_at_once_are_both_there(tmp_path: Path) -> None:
    """Processes that add at the same time lose nothing of each other."""
    children = []
    for number in range(6):
        path = archive_file(tmp_path, rootfs(str(number % 2)), f"{number}.tar")
        children.append(in_child(lambda: open_store(tmp_path), path, f"image{number}"))

    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    store = open_store(tmp_path)
    assert codes == [0] * 6
    assert len(store.list()) == 6
    assert len({lower for image in store.list() for lower in image.lower}) == 2


def test_an_import_killed_at_any_moment_leaves_a_whole_store(tmp_path: Path) -> None:
    """After kill -9 the store is as before or after, and the next import clears what is left."""
    big = Archive()
    for number in range(400):
        big.file(f"d/{number}", os.urandom(4000))
    path = archive_file(tmp_path, big.bytes(), "big.tar")
    store = open_store(tmp_path)
    store.import_rootfs(archive_file(tmp_path, rootfs()), "kept")

    for delay in range(24):
        child = in_child(lambda: open_store(tmp_path), path, f"image{delay}")
        wait_or_kill(child, delay * 0.006)
        for image in store.list():
            for lower in store.resolve(image.id).lower:
                assert (Path(lower) / "etc/motd").exists() or len(os.listdir(f"{lower}/d")) == 400

    store.import_rootfs(path, "last")
    store.collect()
    assert os.listdir(store.layout.staging) == []
    assert store.resolve("kept").size == 5


def in_child(make: Callable[[], Store], path: Path, name: str) -> int:
    """Import in a forked child; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            make().import_rootfs(path, name)
            code = 0
        finally:
            os._exit(code)
    return pid

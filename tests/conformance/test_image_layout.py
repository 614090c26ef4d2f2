"""The store is an OCI image layout that other tools read and write."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.image.store import Store
from sandbox.paths import Paths
from tests.archives import rootfs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    names = ("data", "run", "config", "cache")
    return Store(Paths(*(tmp_path / name for name in names)))


def skopeo(*arguments: str) -> str:
    if not shutil.which("skopeo"):
        pytest.skip("needs skopeo")
    command = ["skopeo", "--insecure-policy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_reads_the_store(store: Store, tmp_path: Path) -> None:
    """An imported image is inspected, and copied with all its digests verified."""
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(rootfs())
    image = store.import_rootfs(archive, "my:1", changes=["ENV A=b"])
    source = f"oci:{store.paths.storage}:docker.io/library/my:1"

    inspected = json.loads(skopeo("inspect", source))
    skopeo("copy", source, f"dir:{tmp_path}/copy")

    assert inspected["Digest"] == image.digest
    assert inspected["Env"] == ["A=b"]
    assert (tmp_path / "copy" / image.id.removeprefix("sha256:")).exists()


def test_what_skopeo_writes_into_the_store_is_an_image(store: Store, tmp_path: Path) -> None:
    """An image copied in by another tool resolves, its layer unpacked on first use."""
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(rootfs())
    store.import_rootfs(archive, "my:1")
    source = f"oci:{store.paths.storage}:docker.io/library/my:1"
    skopeo("copy", "--dest-compress-format=gzip", source, f"oci:{tmp_path}/other:x")
    other = Store(Paths(*(tmp_path / name for name in ("data2", "run2", "config2", "cache2"))))
    other.layout.create()

    skopeo("copy", f"oci:{tmp_path}/other:x", f"oci:{other.paths.storage}:theirs")

    image = other.resolve("theirs")
    assert image.names == ("docker.io/library/theirs:latest",)
    assert (Path(image.lower[0]) / "etc/motd").read_text() == "hello"

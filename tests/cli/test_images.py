"""import, images, rmi, prune, df and reset do what docker's users expect."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.archives import Archive, rootfs
from tests.rootfs import busybox, write_busybox_tar
from tests.sbx_command import Sbx


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(rootfs())
    return path


@pytest.fixture
def image(sbx: Sbx, tmp_path: Path) -> str:
    """The name of an image that programs run in."""
    program = busybox()
    if program is None:
        pytest.skip("needs a static busybox")
    write_busybox_tar(program, tmp_path / "busybox.tar")
    sbx("import", "-c", 'CMD ["echo", "by default"]', tmp_path / "busybox.tar", "box", check=True)
    return "box"


def test_an_imported_image_is_listed(sbx: Sbx, archive: Path) -> None:
    """import prints the id, and images shows it as docker does."""
    done = sbx("import", archive, "my", check=True)

    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    short = done.stdout[7:19]
    heading, row = sbx("images", check=True).stdout.splitlines()
    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:3] == ["my", "latest", short]
    assert sbx("images", "--quiet", check=True).stdout == f"{short}\n"
    assert sbx("images", "-q", "--no-trunc", check=True).stdout == done.stdout


def test_the_builtin_image_is_listed_with_all(sbx: Sbx) -> None:
    """`host` is shown by --all alone, so that scripts over images never meet it."""
    assert "host" not in sbx("images", check=True).stdout
    assert "host" in sbx("images", "--all", check=True).stdout
    assert sbx("images", "--all", "--quiet", check=True).stdout == ""


def test_images_are_filtered_and_formatted(sbx: Sbx, archive: Path) -> None:
    """--filter, a pattern, --format and json narrow and shape the list."""
    sbx("import", "-c", "LABEL kind=test", archive, "team/one:1", check=True)
    sbx("import", archive, "two", check=True)
    sbx("import", "-c", "USER 1", archive, "two", check=True)

    def names(*arguments: str) -> list[str]:
        form = "{{.Repository}}:{{.Tag}}"
        return sbx("images", "--format", form, *arguments, check=True).stdout.split()

    assert sorted(names()) == ["<none>:<none>", "team/one:1", "two:latest"]
    assert names("team/*") == ["team/one:1"]
    assert names("two:latest") == ["two:latest"]
    assert names("--filter", "dangling=true") == ["<none>:<none>"]
    assert names("--filter", "label=kind=test") == ["team/one:1"]
    assert names("--filter", "reference=t*") == ["two:latest"]
    assert names("--filter", "before=team/one:1") == []
    rows = [json.loads(line) for line in sbx("images", "--format", "json").stdout.splitlines()]
    assert {row["Repository"] for row in rows} == {"<none>", "team/one", "two"}
    assert sbx("images", "--filter", "colour=red").returncode == 125


def test_import_reads_standard_input(sbx: Sbx, archive: Path) -> None:
    """`sbx import - NAME` takes the archive from a pipe."""
    with archive.open("rb") as file:
        process = sbx.popen("import", "-", "piped", stdin=file, stdout=subprocess.PIPE)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert output.startswith(b"sha256:")


def test_what_an_import_leaves_out_is_said(sbx: Sbx, tmp_path: Path) -> None:
    """Device nodes are not made, and the user learns of it."""
    path = tmp_path / "devices.tar"
    path.write_bytes(Archive().device("dev/null", 1, 3).file("f").bytes())

    done = sbx("import", path, "my", check=True)

    assert "left out: 1 device node (dev/null)" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Archive().file("../../etc/evil").bytes(), "layer refused"),
        (Archive().file("a").bytes()[:100], "damaged tar archive"),
        (b"\x1f\x8b\x08\x00 no gzip", "damaged gzip stream"),
    ],
)
def test_a_hostile_archive_is_refused_clearly(
    sbx: Sbx, tmp_path: Path, content: bytes, message: str
) -> None:
    """An archive that is damaged or tricks leaves no image and a message of one line or two."""
    path = tmp_path / "bad.tar"
    path.write_bytes(content)

    done = sbx("import", path, "my")

    assert done.returncode == 1
    assert message in done.stderr
    assert "internal error" not in done.stderr
    assert sbx("images", "-aq", check=True).stdout == ""


def test_wrong_names_are_refused(sbx: Sbx, archive: Path, tmp_path: Path) -> None:
    """A name that is none, or the built-in image's, and a missing file are said so."""
    assert "must be lowercase" in sbx("import", archive, "UPPER").stderr
    assert "built-in" in sbx("import", archive, "host").stderr
    assert "can't read" in sbx("import", tmp_path / "nothing.tar", "my").stderr


def test_an_image_runs(sbx: Sbx, image: str) -> None:
    """A container of an imported image has its files and its default command."""
    assert sbx("run", "--rm", image, check=True).stdout == "by default\n"
    done = sbx("run", "--rm", image, "cat", "/etc/os-release", check=True)
    assert done.stdout == 'NAME="busybox"\n'


def test_names_are_removed_one_by_one(sbx: Sbx, archive: Path) -> None:
    """rmi untags, deletes with the last name, and goes on after an error."""
    image_id = sbx("import", archive, "my", check=True).stdout.strip()

    done = sbx("rmi", "nothing", "my")

    assert done.returncode == 1
    assert "no such image: nothing" in done.stderr
    assert done.stdout == f"Untagged: my:latest\nDeleted: {image_id}\n"
    assert sbx("images", "-q", check=True).stdout == ""


def test_an_image_in_use_stays(sbx: Sbx, image: str) -> None:
    """rmi refuses what a container was made from; with --force the container still works."""
    container = sbx("run", "-d", image, "sleep", "1000", check=True).stdout.strip()

    refused = sbx("rmi", image)
    assert refused.returncode == 1
    assert "in use" in refused.stderr
    sbx("rmi", "--force", image, check=True)

    assert sbx("exec", container, "cat", "/etc/passwd", check=True).stdout.startswith("root")
    sbx("rm", "-f", container, check=True)
    assert sbx("system", "prune", "--force", check=True).stdout.endswith("MB\n")


def test_prune_asks_first(sbx: Sbx, archive: Path) -> None:
    """Without --force nothing is removed unless the user says yes."""
    sbx("import", archive, "my", check=True)

    assert "Are you sure" in sbx("image", "prune", "--all", input="n\n", check=True).stdout
    assert sbx("images", "-q", check=True).stdout
    sbx("image", "prune", "--all", input="y\n", check=True)
    assert sbx("images", "-q", check=True).stdout == ""


def test_disk_usage_and_reset(sbx: Sbx, archive: Path) -> None:
    """system df counts what is there; system reset leaves nothing."""
    sbx("import", archive, "my", check=True)

    lines = sbx("system", "df", check=True).stdout.splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[1].split()[:3] == ["Images", "1", "0"]

    sbx("system", "reset", "--force", check=True)

    storage = sbx.directory / "data/sbx/storage"
    assert not storage.exists() or os.listdir(storage) == ["content.lock"]
    sbx("import", archive, "again", check=True)

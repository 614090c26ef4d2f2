"""pull, push, login, save, load, tag and history do what docker's users expect."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives import rootfs
from tests.registries import registry
from tests.sbx_command import Sbx


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry", auth=True) as host:
        yield host


@pytest.fixture
def image(sbx: Sbx, tmp_path: Path) -> str:
    (tmp_path / "rootfs.tar").write_bytes(rootfs())
    sbx("import", "-m", "made for a test", tmp_path / "rootfs.tar", "my:1", check=True)
    return "my:1"


def test_an_image_goes_to_a_registry_and_comes_back(sbx: Sbx, image: str, host: str) -> None:
    """login, tag, push, rmi and pull print docker's lines, and the image is the same."""
    name = f"{host}/team/my:1"
    image_id = sbx("images", "-q", "--no-trunc", check=True).stdout
    sbx("tag", image, name, check=True)

    denied = sbx("push", name)
    assert denied.returncode == 1
    assert f"sbx login {host}" in denied.stderr
    wrong = sbx("login", "-u", "tester", "--password-stdin", host, input="wrong")
    assert wrong.returncode == 1
    assert "denied" in wrong.stderr
    login = sbx("login", "-u", "tester", "--password-stdin", host, input="secret\n", check=True)
    assert login.stdout == "Login Succeeded\n"
    pushed = sbx("push", name, check=True).stdout
    digest = re.search(r"1: digest: (sha256:[0-9a-f]{64}) size: \d+\n", pushed)
    assert digest
    sbx("rmi", "--force", image, name, check=True)

    pulled = sbx("pull", name, check=True).stdout

    assert f"Digest: {digest[1]}\nStatus: Downloaded newer image for {name}\n{name}\n" in pulled
    assert ": Pull complete\n" in pulled
    assert sbx("images", "-q", "--no-trunc", check=True).stdout == image_id
    assert "up to date" in sbx("pull", name, check=True).stdout
    assert sbx("pull", "--quiet", name, check=True).stdout == f"{name}\n"
    assert "Removing login" in sbx("logout", host, check=True).stdout
    assert "denied" in sbx("pull", name).stderr


def test_a_registry_that_is_not_there_is_said_so(sbx: Sbx) -> None:
    """No traceback and no long wait for a host that does not answer."""
    done = sbx("pull", "127.0.0.1:1/nothing")

    assert done.returncode == 1
    assert "can't reach 127.0.0.1:1" in done.stderr
    assert "internal error" not in done.stderr


def test_an_archive_carries_images(sbx: Sbx, image: str, tmp_path: Path) -> None:
    """What save writes to a file or a pipe, load reads from a file or a pipe."""
    sbx("tag", image, "second", check=True)
    sbx("save", "-o", tmp_path / "saved.tar", image, "second", check=True)
    piped = subprocess.run(
        [*sbx.program, "save", image], env=sbx.environ, capture_output=True, check=True
    ).stdout
    sbx("system", "reset", "--force", check=True)

    loaded = sbx("load", "-i", tmp_path / "saved.tar", check=True).stdout

    assert sorted(loaded.splitlines()) == ["Loaded image: my:1", "Loaded image: second:latest"]
    sbx("system", "reset", "--force", check=True)
    done = subprocess.run(
        [*sbx.program, "load"], input=piped, env=sbx.environ, capture_output=True, check=True
    )
    assert done.stdout == b"Loaded image: my:1\n"


def test_a_failed_save_leaves_no_file(sbx: Sbx, image: str, tmp_path: Path) -> None:
    """A directory that is not there, or an image that is not, leaves nothing behind."""
    assert sbx("save", "-o", tmp_path / "no/where.tar", image).returncode == 125
    assert sbx("save", "-o", tmp_path / "s.tar", "nothing").returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rootfs.tar"]


def test_what_is_no_archive_of_images_is_said(sbx: Sbx, image: str, tmp_path: Path) -> None:
    """Loading a root file system tells of import."""
    done = sbx("load", "-i", tmp_path / "rootfs.tar")

    assert done.returncode == 1
    assert "sbx import" in done.stderr


def test_history_shows_how_an_image_was_made(sbx: Sbx, image: str) -> None:
    """Each step has a row, as docker prints it."""
    heading, row = sbx("history", image, check=True).stdout.splitlines()

    assert heading.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert row.endswith("made for a test")
    [line] = sbx("history", "--format", "json", image, check=True).stdout.splitlines()
    assert json.loads(line)["Comment"] == "made for a test"


def test_a_damaged_store_is_found_and_repaired(sbx: Sbx, image: str) -> None:
    """system check fails on damage and says how to mend it."""
    assert "whole" in sbx("system", "check", check=True).stdout
    blobs = sbx.directory / "data/sbx/storage/blobs/sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"damage")

    found = sbx("system", "check")
    assert found.returncode == 1
    assert "--repair" in found.stdout
    sbx("system", "check", "--repair", check=True)

    assert sbx("images", "-q", check=True).stdout == ""
    assert "whole" in sbx("system", "check", check=True).stdout


def test_all_tags_are_pulled_and_repositories_found(sbx: Sbx, image: str, host: str) -> None:
    """`pull --all-tags` fetches every tag of a repository; search finds it."""
    sbx("login", "-u", "tester", "--password-stdin", host, input="secret\n", check=True)
    names = [f"{host}/team/my:{tag}" for tag in ("1", "2")]
    for name in names:
        sbx("tag", image, name, check=True)
        sbx("push", "-q", name, check=True)
    sbx("rmi", "--force", image, *names, check=True)

    sbx("pull", "--all-tags", f"{host}/team/my", check=True)

    form = "{{.Repository}}:{{.Tag}}"
    assert sorted(sbx("images", "--format", form, check=True).stdout.split()) == names
    found = sbx("search", "--format", "{{.Name}}", f"{host}/my", check=True).stdout
    assert found == f"{host}/team/my\n"
    heading, row = sbx("search", f"{host}/", check=True).stdout.splitlines()
    assert heading.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert row.split() == [f"{host}/team/my", "0"]
    assert sbx("search", "--limit", "0", "x").returncode == 125

"""`sbx cp` puts files where docker does, in running containers and in others."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.archives import Archive
from tests.sbx_command import Sbx

FILES = "echo inside > /file; mkdir -p /dir/sub; echo x > /dir/sub/x; ln -s /file /link"


@pytest.fixture(params=["running", "exited"])
def box(request: pytest.FixtureRequest, sbx: Sbx, busybox_tar: Path) -> str:
    """The name of a container that has some files."""
    sbx("import", busybox_tar, "box", check=True)
    if request.param == "exited":
        sbx("run", "--name", "box", "box", "sh", "-c", FILES, check=True)
        return "box"
    script = f"{FILES}; echo ready; exec sleep 1000"
    sbx("run", "-d", "--name", "box", "box", "sh", "-c", script, check=True)
    with sbx.popen("logs", "-f", "box", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"ready\n"
        logs.kill()
    return "box"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory of the host with something to copy."""
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/f").write_text("deep")
    (tmp_path / "from/link").symlink_to("deep/f")
    (tmp_path / "f").write_text("content")
    (tmp_path / "f").chmod(0o750)
    return tmp_path


def members(sbx: Sbx, path: str) -> dict[str, tarfile.TarInfo]:
    """What is at a path of the container, by `sbx cp … -`."""
    with sbx.popen("cp", f"box:{path}", "-", stdout=subprocess.PIPE) as process:
        data, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def test_files_go_in(sbx: Sbx, box: str, here: Path) -> None:
    """Into a directory, under a new name, over a file; they belong to the container's root."""
    for destination in ("box:/tmp", "box:tmp/new", "box:/file"):
        sbx("cp", "f", destination, cwd=here, check=True)

    found = members(sbx, "/tmp")
    assert {"tmp/f", "tmp/new"} <= set(found)
    file = found["tmp/f"]
    assert (file.mode, file.size, file.uid, file.gid) == (0o750, 7, 0, 0)
    assert members(sbx, "/file")["file"].size == 7


def test_directories_go_in(sbx: Sbx, box: str, here: Path) -> None:
    """As a whole into one that is there, as a new one, or only what is in it."""
    sbx("cp", here / "from", "box:/tmp", check=True)
    sbx("cp", here / "from", "box:/new", check=True)
    sbx("cp", f"{here}/from/.", "box:/new/deep", check=True)

    assert {"tmp/from/deep/f", "tmp/from/link"} <= set(members(sbx, "/tmp"))
    new = members(sbx, "/new")
    assert {"new/deep/f", "new/link", "new/deep/deep/f", "new/deep/link"} <= set(new)
    assert new["new/link"].linkname == "deep/f"


def test_files_come_out(sbx: Sbx, box: str, here: Path) -> None:
    """Into a directory, under a new name; links as links, or followed with -L."""
    sbx("cp", "box:/file", here, check=True)
    sbx("cp", "box:/dir", here / "new", check=True)
    sbx("cp", "box:/dir/.", here / "from", check=True)
    sbx("cp", "box:/link", here / "link", check=True)
    sbx("cp", "-L", "box:/link", here / "followed", check=True)

    assert (here / "file").read_text() == "inside\n"
    assert (here / "file").stat().st_uid == os.getuid()
    assert (here / "new/sub/x").read_text() == (here / "from/sub/x").read_text() == "x\n"
    assert os.readlink(here / "link") == "/file"
    assert stat.S_ISREG((here / "followed").lstat().st_mode)
    assert (here / "followed").read_text() == "inside\n"


def test_archives_go_in_and_come_out(sbx: Sbx, box: str, here: Path) -> None:
    """`-` is a tar archive, packed or not, on standard input and output."""
    archive = Archive().file("a", b"1", uid=0).file(".wh.b", b"2").bytes()
    command = [*sbx.program, "cp", "-", "box:/tmp"]
    subprocess.run(command, input=archive, env=sbx.environ, check=True, timeout=60)

    found = members(sbx, "/tmp")

    assert {"tmp/a", "tmp/.wh.b"} <= set(found)
    assert set(members(sbx, "/dir")) == {"dir", "dir/sub", "dir/sub/x"}


def test_a_changed_container_goes_on(sbx: Sbx, box: str, here: Path) -> None:
    """What was copied in is a change like others: `diff` has it, and programs see it."""
    sbx("cp", here / "f", "box:/etc/new", check=True)

    assert "A /etc/new" in sbx("diff", "box", check=True).stdout.splitlines()
    sbx("commit", "box", "my", check=True)
    assert sbx("run", "--rm", "my", "cat", "/etc/new", check=True).stdout == "content"


@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        ("box:/nothing", ".", "can't copy /nothing"),
        ("nothing", "box:/", "can't copy"),
        ("f", "box:/no/where", "can't copy to /no/where"),
        ("f", "box:/nothing/", "the destination directory /nothing/ does not exist"),
        ("f/", "box:/tmp", "Not a directory"),
        ("from", "box:/file", "can't copy a directory to the file /file"),
        ("box:/dir", "f", "can't copy a directory to the file"),
        ("f", "from", "write CONTAINER:PATH"),
        ("box:/file", "box:/tmp", "write CONTAINER:PATH"),
        ("absent:/file", ".", "no such container: absent"),
    ],
)
def test_what_cannot_be_copied_is_said(
    sbx: Sbx, box: str, here: Path, source: str, destination: str, said: str
) -> None:
    """Each mistake has its own line, and changes nothing."""
    result = sbx("cp", source, destination, cwd=here)

    assert result.returncode != 0
    assert said in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_links_of_the_container_end_in_it(sbx: Sbx, box: str, here: Path) -> None:
    """A link that names a path of the host leads to that path of the container, or nowhere."""
    (here / "secret").write_text("the host's")
    archive = Archive().symlink("out", str(here)).symlink("up", f"../../../../..{here}").bytes()
    command = [*sbx.program, "cp", "-", "box:/tmp"]
    subprocess.run(command, input=archive, env=sbx.environ, check=True, timeout=60)

    for link in ("out", "up"):
        assert sbx("cp", f"box:/tmp/{link}/secret", here / "stolen").returncode != 0
        assert sbx("cp", "-L", f"box:/tmp/{link}", here / "stolen").returncode != 0
        assert sbx("cp", here / "f", f"box:/tmp/{link}/planted").returncode != 0

    assert not (here / "stolen").exists()
    assert not (here / "planted").exists()


def test_volumes_of_a_running_container_are_seen(sbx: Sbx, busybox_tar: Path, here: Path) -> None:
    """What is mounted is copied to and from; /proc is not copied at all."""
    sbx("import", busybox_tar, "box", check=True)
    sbx("run", "-d", "--name", "box", "-v", "vol:/data", "box", "sleep", "1000", check=True)

    sbx("cp", here / "f", "box:/data", check=True)

    assert sbx("exec", "box", "cat", "/data/f", check=True).stdout == "content"
    names = set(members(sbx, "/."))
    assert "./data/f" in names or "data/f" in {name.removeprefix("./") for name in names}
    assert not any(name.removeprefix("./").startswith("proc/") for name in names)


def test_files_go_into_a_container_that_has_never_run(
    sbx: Sbx, busybox_tar: Path, here: Path
) -> None:
    """What was copied between `create` and `start` is there; nothing else has changed yet."""
    sbx("import", busybox_tar, "box", check=True)
    sbx("create", "--name", "box", "box", "cat", "/tmp/f", check=True)
    assert sbx("diff", "box", check=True).stdout == ""

    sbx("cp", here / "f", "box:/tmp/f", check=True)

    assert sbx("start", "--attach", "box", check=True).stdout == "content"

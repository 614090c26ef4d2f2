"""commit, diff and export: what a container changed, as an image, a list, an archive."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.sbx_command import Sbx


@pytest.fixture
def box(sbx: Sbx, busybox_tar: Path) -> str:
    """The name of an image that programs run in."""
    sbx("import", "-c", 'ENTRYPOINT ["env"]', "-c", "ENV A=1", busybox_tar, "box", check=True)
    return "box"


def shell(sbx: Sbx, name: str, script: str) -> None:
    sbx("run", "--name", name, "--entrypoint", "sh", "box", "-c", script, check=True)


def exported(sbx: Sbx, name: str) -> tarfile.TarFile:
    with sbx.popen("export", name, stdout=subprocess.PIPE) as process:
        data, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return tarfile.open(fileobj=io.BytesIO(data))


def test_a_container_becomes_an_image(sbx: Sbx, box: str) -> None:
    """commit prints the id; the image has the changes, the removals and the new command."""
    shell(sbx, "work", "echo hi > /new; rm /bin/vi; mv /home /moved; mkdir /home")

    done = sbx("commit", "-a", "me", "-m", "note", "-c", 'CMD ["ls"]', "work", "my:1", check=True)

    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    look = "cat /new; ls -d /bin/vi /moved /home"
    found = sbx("run", "--rm", "--entrypoint", "sh", "my:1", "-c", look)
    assert found.stdout.split() == ["hi", "/home", "/moved"]
    history = sbx("history", "--format", "{{.CreatedBy}}|{{.Comment}}", "my:1", check=True).stdout
    assert history.splitlines()[0].endswith("|note")
    assert "echo hi" in history
    [config] = json.loads(sbx("inspect", "my:1", check=True).stdout)
    assert config["Config"]["Cmd"] == ["ls"]
    assert sbx("system", "check", check=True).returncode == 0


def test_a_committed_image_runs_as_its_container_did(sbx: Sbx, box: str) -> None:
    """Variables, user, directory and labels of `run` are the new image's."""
    options = ("-e", "B=2", "-w", "/tmp", "-l", "kind=test", "-u", "0:0")
    sbx("run", "--name", "work", *options, box, "C=3", "env", check=True)

    sbx("commit", "work", "my", check=True)

    [image] = json.loads(sbx("inspect", "my", check=True).stdout)
    config = image["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["env"], ["C=3", "env"])
    assert (config["WorkingDir"], config["Labels"]) == ("/tmp", {"kind": "test"})
    assert config["Env"][:2] == ["A=1", "B=2"]
    assert not any(item.startswith("HOSTNAME") for item in config["Env"])
    assert {"A=1", "B=2", "C=3"} <= set(sbx("run", "--rm", "my", check=True).stdout.split())


def test_a_commit_repeated_with_source_date_epoch_is_the_same(sbx: Sbx, box: str) -> None:
    """SOURCE_DATE_EPOCH makes an image that depends on nothing but the files."""
    ids = set()
    for name in ("one", "two"):
        shell(sbx, name, "echo hi > /new")
        done = sbx(
            *("commit", "-c", "CMD x", name), env={"SOURCE_DATE_EPOCH": "1000000"}, check=True
        )
        ids.add(done.stdout)

    assert len(ids) == 1
    assert sbx("commit", "one", env={"SOURCE_DATE_EPOCH": "now"}).returncode == 125


def test_a_running_container_is_committed_with_what_it_has_written(sbx: Sbx, box: str) -> None:
    """What a program wrote before, to a file that it still has open, is in the image."""
    script = "exec 3>/log; echo written >&3; echo ready; exec sleep 1000"
    sbx("run", "-d", "--name", "work", "--entrypoint", "sh", box, "-c", script, check=True)
    with sbx.popen("logs", "-f", "work", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        logs.stdout.readline()
        logs.kill()

    done = sbx("commit", "work", "my", check=True)

    assert "can't be paused" in done.stderr or not done.stderr
    assert sbx("run", "--rm", "--entrypoint", "cat", "my", "/log").stdout == "written\n"
    with exported(sbx, "work") as tar:
        content = tar.extractfile("log")
        assert content is not None
        assert content.read() == b"written\n"
    assert "A /log\n" in sbx("diff", "work", check=True).stdout


def test_diff_has_dockers_letters(sbx: Sbx, box: str) -> None:
    """A for added, C for changed, D for deleted; what sbx mounted on does not count."""
    script = "mkdir /d; touch /d/f '/d/a\x1b[1m'; echo x >> /etc/passwd; rm -r /home"
    sbx("run", "--name", "work", "-v", "vol:/data/in", "--entrypoint", "sh", box, "-c", script)

    assert sbx("diff", "work", check=True).stdout.splitlines() == [
        "A /d",
        "A /d/a\\x1b[1m",
        "A /d/f",
        "C /etc",
        "C /etc/passwd",
        "D /home",
    ]
    assert sbx("diff", "--format", "{{.Path}}", "work").stdout.splitlines()[0] == "/d"


def test_a_container_that_changed_nothing_has_no_differences(sbx: Sbx, box: str) -> None:
    """The mount points that its image lacked are not its changes."""
    sbx("run", "--name", "work", "-v", "vol:/data/in", box, check=True)

    assert sbx("diff", "work", check=True).stdout == ""


def test_export_is_the_merged_tree(sbx: Sbx, box: str, tmp_path: Path) -> None:
    """The archive has what image and container have together, and imports as one layer."""
    shell(sbx, "work", "echo hi > /new; ln /new /other; rm /bin/vi; rm -r /home; mkdir /home")

    sbx("export", "-o", tmp_path / "work.tar", "work", check=True)

    with tarfile.open(tmp_path / "work.tar") as tar:
        names = set(tar.getnames())
        assert tar.getmember("other").islnk()
    assert {"bin/busybox", "bin/sh", "new", "home"} <= names
    assert not names & {"bin/vi"}
    assert not any(name.startswith((".wh.", "bin/.wh.")) for name in names)
    sbx("import", tmp_path / "work.tar", "flat", check=True)
    assert sbx("run", "--rm", "flat", "cat", "/other", check=True).stdout == "hi\n"


def test_a_container_of_the_host_can_be_exported_not_committed(sbx: Sbx) -> None:
    """An image of this machine's root would need it as a layer: commit says what to do instead."""
    sbx("run", "--name", "work", "host", "true", check=True)

    refused = sbx("commit", "work")

    assert (refused.returncode, "sbx export work" in refused.stderr) == (1, True)
    assert sbx("diff", "work", check=True).stdout == ""


def test_what_is_not_there_is_said(sbx: Sbx) -> None:
    """An unknown container is exit code 1 and a line, for each of the commands."""
    for command in ("commit", "diff", "export"):
        result = sbx(command, "nothing")
        assert (result.returncode, result.stderr.splitlines()[0]) == (
            1,
            "sbx: no such container: nothing",
        )


def test_a_commit_to_a_bad_name_is_refused(sbx: Sbx, box: str) -> None:
    """Names are checked before anything is read."""
    sbx("run", "--name", "work", box, check=True)

    assert sbx("commit", "work", "UPPER").returncode == 125
    assert sbx("commit", "work", "host").returncode == 125
    assert sbx("images", "--quiet", "--no-trunc", check=True).stdout.count("sha256") == 1

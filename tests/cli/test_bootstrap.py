"""`sbx image bootstrap` runs mmdebstrap; here a stand-in, for a mirror is far away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.archives import rootfs
from tests.sbx_command import Sbx

STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > {directory}/arguments
echo "I: making a tree" >&2
cat {directory}/rootfs.tar
exit {code}
"""


@pytest.fixture
def program(sbx: Sbx, tmp_path: Path) -> Path:
    """A program in a directory of its own that does as mmdebstrap does."""
    (tmp_path / "rootfs.tar").write_bytes(rootfs())
    path = tmp_path / "bin/mmdebstrap"
    path.parent.mkdir()
    path.write_text(STAND_IN.format(directory=tmp_path, code=0))
    path.chmod(0o755)
    return path


def search_path(sbx: Sbx, program: Path) -> dict[str, str]:
    return {"PATH": f"{program.parent}:{sbx.environ['PATH']}"}


def test_an_image_is_made_of_what_mmdebstrap_writes(sbx: Sbx, program: Path) -> None:
    """The tag is the release; what it says goes to standard error, the id to standard output."""
    done = sbx(
        *("image", "bootstrap", "--include", "a,b", "debian:bookworm-slim"),
        env=search_path(sbx, program),
        check=True,
    )

    assert done.stdout.startswith("sha256:")
    assert "I: making a tree" in done.stderr
    arguments = (program.parent.parent / "arguments").read_text().splitlines()
    assert arguments[-3:] == ["bookworm", "-", "http://deb.debian.org/debian"]
    assert {"--variant=minbase", "--include=a,b"} <= set(arguments)
    assert "--dpkgopt=path-exclude=/usr/share/doc/*" in arguments
    [image] = json.loads(sbx("inspect", "debian:bookworm-slim", check=True).stdout)
    assert image["Config"]["Cmd"] == ["bash"]


def test_a_failure_of_mmdebstrap_makes_no_image(sbx: Sbx, program: Path) -> None:
    """Also where the archive was whole: the exit code decides."""
    program.write_text(STAND_IN.format(directory=program.parent.parent, code=3))

    done = sbx("image", "bootstrap", "debian", env=search_path(sbx, program))

    assert done.returncode == 125
    assert "mmdebstrap failed (exit code 3)" in done.stderr
    assert sbx("images", "-q", check=True).stdout == ""


def test_what_is_missing_is_said(sbx: Sbx, program: Path, tmp_path: Path) -> None:
    """No program, no mirror, no release: each error says what to do."""
    env = search_path(sbx, program)
    empty = {"PATH": str(tmp_path / "nowhere")}

    assert "apt install mmdebstrap" in sbx("image", "bootstrap", "debian", env=empty).stderr
    assert "--mirror URL" in sbx("image", "bootstrap", "kali:rolling", env=env).stderr
    assert "ubuntu:RELEASE" in sbx("image", "bootstrap", "ubuntu", env=env).stderr

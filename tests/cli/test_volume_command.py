"""`sbx volume`: made, listed, kept while in use, removed."""

from __future__ import annotations

import json

from tests.sbx_command import Sbx


def test_a_volume_is_made_listed_and_removed(sbx: Sbx) -> None:
    """Its content outlives containers; it stays while one of them uses it."""
    assert sbx("volume", "create", "data", check=True).stdout == "data\n"
    sbx("run", "--name", "job", "-v", "data:/d", "host", "sh", "-c", "echo x > /d/f", check=True)

    assert sbx("volume", "ls", check=True).stdout.splitlines()[1].split() == ["local", "data"]
    assert sbx("volume", "ls", "-q", "--filter", "dangling=true", check=True).stdout == ""
    (shown,) = json.loads(sbx("volume", "inspect", "data", check=True).stdout)
    assert shown["Name"] == "data"
    assert shown["Mountpoint"].endswith("/volumes/data/_data")

    used = sbx("volume", "rm", "data")
    assert used.returncode == 1
    assert "volume data is in use by job" in used.stderr

    sbx("rm", "job", check=True)
    kept = sbx("run", "--rm", "-v", "data:/d", "host", "cat", "/d/f", check=True)
    assert kept.stdout == "x\n"
    assert sbx("volume", "rm", "data", check=True).stdout == "data\n"
    assert sbx("volume", "rm", "data").returncode == 1
    assert sbx("volume", "rm", "-f", "data").returncode == 0


def test_prune_removes_what_nobody_uses(sbx: Sbx) -> None:
    """Anonymous volumes, with --all named ones too; never those of a container."""
    sbx("run", "--name", "job", "-v", "/used", "host", "true", check=True)
    sbx("run", "--name", "gone", "-v", "/unused", "host", "true", check=True)
    sbx("rm", "gone", check=True)
    sbx("volume", "create", "named", check=True)

    assert len(sbx("volume", "prune", "-f", check=True).stdout.split()) == 1
    assert sbx("volume", "prune", "-af", check=True).stdout == "named\n"
    assert len(sbx("volume", "ls", "-q", check=True).stdout.split()) == 1


def test_a_volumes_name_is_a_name(sbx: Sbx) -> None:
    """No name leads out of the volumes' directory."""
    for name in ("../x", "a/b", "", "."):
        assert sbx("volume", "create", name).returncode == 125
        assert sbx("volume", "rm", name).returncode == 1

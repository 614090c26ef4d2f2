"""`sbx profile ls|show`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.sbx_command import Sbx


def test_profiles_are_listed_with_the_users_own(sbx: Sbx) -> None:
    """Name, description and where each is from."""
    directory = Path(sbx.environ["XDG_CONFIG_HOME"]) / "sbx/profiles"
    directory.mkdir(parents=True)
    (directory / "mine.toml").write_text('description = "my own"')

    listed = sbx("profile", "ls", check=True).stdout

    assert listed.splitlines()[0].split() == ["NAME", "DESCRIPTION", "PATH"]
    assert "my own" in listed
    assert str(directory / "mine.toml") in listed
    names = sbx("profile", "ls", "-q", check=True).stdout.split()
    assert names == ["build", "default", "dev", "mine", "untrusted"]


def test_a_profile_is_shown_as_toml(sbx: Sbx) -> None:
    """What it extends is merged in; a template gets the single values."""
    shown = tomllib.loads(sbx("profile", "show", "untrusted", check=True).stdout)

    assert shown["network"] == {"mode": "none"}
    assert shown["limits"]["memory"] == "512m"
    assert sbx("profile", "show", "--format", "{{.pids}}", "untrusted").stdout == "128\n"
    missing = sbx("profile", "show", "nope")
    assert missing.returncode == 1
    assert "there are build, default, dev, untrusted" in missing.stderr

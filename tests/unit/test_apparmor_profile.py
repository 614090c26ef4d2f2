"""The AppArmor profile for systems that restrict user namespaces, as `sbx doctor` installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.doctor.user_namespaces import apparmor_commands

PROFILE = Path(__file__).resolve().parents[2] / "profiles/apparmor/sbx"
COMMAND = "/home/me/my tools/bin/sbx"


def _installed() -> str:
    """The text that the commands of `sbx doctor` write."""
    make, _, rest = apparmor_commands(str(PROFILE), COMMAND).partition(" | ")
    assert rest.startswith("sudo tee /etc/apparmor.d/sbx ")
    return subprocess.run(["sh", "-c", make], capture_output=True, text=True, check=True).stdout


def test_the_profile_is_for_the_command_alone() -> None:
    """It is attached to sbx's path, confines nothing and allows user namespaces."""
    text = _installed()

    assert f'profile sbx "{COMMAND}" flags=(unconfined) {{\n  userns,\n' in text
    assert "@SBX@" not in re.sub("#.*", "", text)


def test_the_parser_takes_the_profile(tmp_path: Path) -> None:
    """apparmor_parser compiles it. One older than 4.0 (Debian 12) knows no `userns`: it gets the
    rest, and its systems restrict nothing."""
    parser = shutil.which("apparmor_parser", path="/sbin:/usr/sbin")
    if parser is None:
        pytest.skip("needs apparmor_parser")
    version = subprocess.run([parser, "--version"], capture_output=True, text=True).stdout
    text = _installed()
    if re.search(r"version [123]\.", version):
        text = text.replace("abi <abi/4.0>,\n", "").replace("  userns,\n", "")
    (tmp_path / "sbx").write_text(text)

    subprocess.run([parser, "--skip-kernel-load", "--skip-cache", tmp_path / "sbx"], check=True)

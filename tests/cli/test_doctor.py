"""`sbx doctor`: what it finds and how it says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandbox.doctor import subordinate_ids
from sandbox.doctor.checks import CHECKS, run_all
from sandbox.doctor.distribution import Distribution
from sandbox.paths import Paths
from tests.sbx_command import Sbx


def test_every_check_answers(tmp_path: Path) -> None:
    """No check breaks, and whatever is not fine says why it matters."""
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    checks = run_all(Paths.from_environ(environ, os.getuid()), environ)

    assert len(checks) == len(CHECKS)
    assert not [check for check in checks if "itself broke" in check.found]
    assert all(check.matters for check in checks if check.state != "ok")
    assert list(tmp_path.iterdir()) == []


def test_this_machine_can_run_containers(sbx: Sbx) -> None:
    """The test machine fails no check, so the exit code is 0, and each has its line."""
    result = sbx("doctor")

    assert result.returncode == 0, result.stdout
    lines = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert len(lines) == len(CHECKS)
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert "\x1b" not in result.stdout


def test_json_has_an_object_per_check(sbx: Sbx) -> None:
    """--format json is for programs."""
    objects = [json.loads(line) for line in sbx("doctor", "--format", "json").stdout.splitlines()]

    assert len(objects) == len(CHECKS)
    assert all(set(one) == {"Name", "State", "Found", "Matters", "Mend"} for one in objects)


def test_a_template_chooses_fields(sbx: Sbx) -> None:
    """--format takes Go templates as docker's commands do."""
    result = sbx("doctor", "--format", "{{.Name}}={{.State}}")

    assert "user namespaces=ok" in result.stdout.splitlines()


def test_quiet_leaves_the_exit_code(sbx: Sbx) -> None:
    """--quiet prints nothing."""
    result = sbx("doctor", "--quiet")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_failure_is_exit_code_1_with_the_command_that_mends_it(sbx: Sbx) -> None:
    """Something containers can't do without: here a runtime directory that is not there."""
    result = sbx("doctor", env={"XDG_RUNTIME_DIR": "/nonexistent/of/sbx", "SBX_LAUNCHER": "off"})

    assert result.returncode == 1
    assert "fail  runtime directory" in result.stdout
    assert "mend: unset XDG_RUNTIME_DIR" in result.stdout


def test_a_user_without_subordinate_ids_is_told_how_to_get_them(sbx: Sbx) -> None:
    """The command names a range that is free."""
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    if any(
        line.owner in (user, str(os.getuid())) for line in subordinate_ids.entries("/etc/subuid")
    ):
        pytest.skip("needs a user without subordinate ids")

    assert "sudo usermod --add-subuids" in sbx("doctor").stdout


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ("", 100_000),
        ("a:100000:65536\n", 165_536),
        ("a:165536:65536\nb:100000:65536\n", 231_072),
        ("a:90000:20000\n", 110_000),
        ("a:300000:65536\nbroken\n:::\n", 100_000),
    ],
)
def test_a_free_range_overlaps_nobody_s(tmp_path: Path, content: str, start: int) -> None:
    """The first gap of 65536 ids from 100000 on."""
    path = tmp_path / "subuid"
    path.write_text(content)

    assert subordinate_ids.free_range(str(path)) == start


def test_an_overlap_with_another_user_is_found(tmp_path: Path) -> None:
    """Two users with ids in common could reach into each other's containers."""
    path = tmp_path / "subuid"
    path.write_text("me:100000:65536\nother:165535:10\nthird:165536:10\n")

    assert subordinate_ids.overlapping(str(path), ("me", "1000")) == "other"
    assert subordinate_ids.overlapping(str(path), ("third", "1001")) == "other"
    assert subordinate_ids.overlapping(str(path), ("nobody", "1002")) is None


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian"}, "sudo apt-get install uidmap"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "sudo apt-get install uidmap"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install shadow-utils"),
        ({"ID": "arch"}, "sudo pacman -S shadow"),
        ({"ID": "nixos"}, "install the package uidmap (Debian's name)"),
    ],
)
def test_packages_are_named_as_the_distribution_does(release: dict[str, str], command: str) -> None:
    """The command that mends is the distribution's own."""
    assert Distribution.of(release).install("uidmap") == command

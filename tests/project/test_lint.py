"""The static checks, with the versions of the lock file; `make lint` runs this file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(*command: str | Path) -> None:
    """Fail with the output of *command* when it fails."""
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stdout + result.stderr


def shell_scripts() -> list[Path]:
    """Every file of the checkout that a shell runs, by its first line."""
    places = [ROOT / name for name in ("setup", ".ci", "demo", "tests", "bench", "profiles")]
    files = [path for place in places for path in sorted(place.rglob("*")) if path.is_file()]
    return [path for path in files if is_shell(path)]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(100)
    return first.startswith((b"#!", b"# shellcheck shell=")) and b"sh" in first.split(b"/")[-1]


@pytest.mark.parametrize("arguments", [("format", "--check", "--diff"), ("check",)])
def test_ruff_has_nothing_to_say(arguments: tuple[str, ...]) -> None:
    """All Python code is formatted, and free of the mistakes that ruff's rules name."""
    check(sys.executable, "-m", "ruff", *arguments, "--no-cache", ".")


@pytest.mark.timeout(600)
def test_the_types_are_right() -> None:
    """mypy --strict accepts both packages."""
    check(sys.executable, "-m", "mypy", "--cache-dir", "/dev/null")


def test_the_shell_scripts_are_clean() -> None:
    """shellcheck has nothing to say about any of our scripts."""
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    scripts = shell_scripts()

    assert scripts
    check("shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *scripts)

"""Completion scripts: right for their shells, and with everything in them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sandbox.cli.commands import COMMANDS
from sandbox.cli.completion import script
from sandbox.cli.main import load


def _complete(*words: str) -> list[str]:
    """Return what bash offers for the last of *words*."""
    shell = (
        script("bash")
        + f"\nCOMP_WORDS=(sbx {' '.join(repr(word) for word in words)})"
        + f"\nCOMP_CWORD={len(words)}\n_sbx\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    result = subprocess.run(
        ["bash", "--norc", "-c", shell], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return [line for line in result.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ru",), ["run"]),
        (("pro",), ["profile"]),
        (("profile", ""), ["list", "ls", "show"]),
        (("container", "pr"), ["prune"]),
        (("run", "--overl"), ["--overlay"]),
        (("run", "--overlay", ""), ["fuse", "kernel"]),
        (("container", "run", "--cgroups", "best"), ["best-effort"]),
        (("run", "--env-file", "/etc/hostna"), ["/etc/hostname"]),
        (("stop", "--sig"), ["--signal"]),
        (("stop", "-s", "US"), ["USR1", "USR2"]),
    ],
)
def test_bash_offers_what_fits(words: tuple[str, ...], offered: list[str]) -> None:
    """Commands, options, choices and files, at the places where they may stand."""
    found = _complete(*words)

    assert set(offered) <= set(found)
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_is_in_every_script(shell: str) -> None:
    """The scripts come from the same data as the help."""
    text = script(shell)

    for name in COMMANDS:
        for option in load(name).options:
            spelled = f"-l {option.name}" if shell == "fish" else f"--{option.name}"
            assert option.hidden or spelled in text


@pytest.mark.parametrize("shell", [*filter(shutil.which, ["bash", "zsh", "fish"])])
def test_the_shell_can_read_its_script(shell: str) -> None:
    """The script is right by the syntax check of every shell that is here."""
    subprocess.run([shell, "-n"], input=script(shell), text=True, check=True)

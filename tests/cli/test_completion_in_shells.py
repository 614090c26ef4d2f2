"""Completion as a user gets it: in bash, zsh and fish, at a terminal, from the real `sbx`."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cli.completion import script
from tests.sbx_command import PATIENCE, Sbx

# (what is typed, what the line or the list shows after the tabulator key)
ONE_CANDIDATE = [
    ("sbx ru", "sbx run "),
    ("sbx profi", "sbx profile "),
    ("sbx profile sh", "sbx profile show "),
    ("sbx container pru", "sbx container prune "),
    ("sbx run --overl", "sbx run --overlay"),
    ("sbx run --cgroups best", "sbx run --cgroups best-effort"),
    ("sbx profile show untr", "sbx profile show untrusted"),
    ("sbx stop job-o", "sbx stop job-of-mine"),
    ("sbx exec job-o", "sbx exec job-of-mine"),
]


@pytest.fixture
def environ(sbx: Sbx) -> dict[str, str]:
    """An environment with `sbx` on the PATH, and a container called job-of-mine."""
    sbx("create", "--name", "job-of-mine", "host", "true", check=True)
    directory = sbx.directory / "bin"
    directory.mkdir()
    (directory / "sbx").write_text(f'#!/bin/sh\nexec {shlex.join(sbx.program)} "$@"\n')
    (directory / "sbx").chmod(0o755)
    path = f"{directory}:{sbx.environ['PATH']}"
    return sbx.environ | {"PATH": path, "TERM": "xterm", "LC_ALL": "C.UTF-8"}


class Shell:
    """An interactive shell at a terminal."""

    def __init__(self, argv: list[str], environ: dict[str, str]) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, environ)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 20) -> None:
        """Read until *text* appears, without regard to what moves the cursor."""
        deadline = time.monotonic() + seconds * PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not appear in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                said = os.read(self.master, 4096).decode(errors="replace")
                self.seen += re.sub(r"\x1b\[[?>=]?[\d;]*[A-Za-z]|\x1b[=>]|\x07", "", said)
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.master)


def _interactive(shell: str, environ: dict[str, str], directory: Path) -> Shell:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    if shell == "bash":
        (directory / "script").write_text(script("bash"))
        opened = Shell(["bash", "--norc", "--noprofile", "-i"], environ)
        opened.type(f". {directory}/script\n")
    else:
        # As the documents say: a file of $fpath.
        (directory / "_sbx").write_text(script("zsh"))
        opened = Shell(["zsh", "-f", "-i"], environ)
        opened.type(f"fpath=({directory} $fpath); autoload -U compinit; compinit -u -D\n")
    opened.type("PS1='ready'\"> \"\n")
    opened.expect("ready> ")
    return opened


@pytest.fixture
def shells() -> Iterator[list[Shell]]:
    opened: list[Shell] = []
    yield opened
    for shell in opened:
        shell.close()


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_tabulator_key_completes(
    name: str, environ: dict[str, str], tmp_path: Path, shells: list[Shell]
) -> None:
    """Commands, options, choices, profiles and containers."""
    shell = _interactive(name, environ, tmp_path)
    shells.append(shell)

    for typed, completed in ONE_CANDIDATE:
        shell.type(f"{typed}\t")
        shell.expect(completed)
        shell.type("\x15")  # ^U: the line is empty again

    shell.type("sbx profile \t\t")
    shell.expect("show")


def test_fish_completes(environ: dict[str, str], tmp_path: Path) -> None:
    """What fish would offer, with the descriptions."""
    if not shutil.which("fish"):
        pytest.skip("needs fish")
    (tmp_path / "sbx.fish").write_text(script("fish"))

    def offered(line: str) -> dict[str, str]:
        command = f"source {tmp_path}/sbx.fish; complete -C {shlex.quote(line)}"
        result = subprocess.run(
            ["fish", "--no-config", "-c", command],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stderr == ""
        lines = [line.partition("\t") for line in result.stdout.splitlines()]
        return {word: description for word, _, description in lines}

    for typed, completed in ONE_CANDIDATE:
        word = completed.split()[-1]
        assert any(found.rstrip("=") == word for found in offered(typed)), typed
    assert offered("sbx ru")["run"] == "Run a command in a new container"
    assert set(offered("sbx profile ")) == {"list", "ls", "show"}
    assert "--overlay" not in offered("sbx ps --")
    assert "/etc/hostname" in offered("sbx run --env-file /etc/hostn")

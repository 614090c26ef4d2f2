"""What every command has in common: help, mistakes, version."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sandbox.cli.commands import ALIASES, COMMANDS, GROUPS
from sandbox.cli.main import load
from sandbox.cli.reference import updated
from tests.sbx_command import Sbx


def test_help_lists_every_command(sbx: Sbx) -> None:
    """`sbx` and `sbx --help` show what there is, by sections."""
    text = sbx("--help", check=True).stdout

    assert sbx(check=True).stdout == text
    for name, entry in COMMANDS.items():
        assert not entry.section or f"  {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_what_the_table_says(name: str) -> None:
    """The module is there, and says of itself what the overview says."""
    command = load(name)

    assert command.name == name
    assert command.summary == COMMANDS[name].summary
    for option in command.options:
        assert option.hidden or option.help
    names = [option.name for option in command.options]
    shorts = [option.short for option in command.options if option.short]
    assert len(set(names)) == len(names)
    assert len(set(shorts)) == len(shorts)


def test_every_alias_leads_to_a_command() -> None:
    """docker's management commands are other names for the same things."""
    assert set(ALIASES.values()) <= set(COMMANDS)
    assert {"container", "image", "profile", "system"} <= GROUPS


def test_a_command_explains_itself(sbx: Sbx) -> None:
    """`sbx COMMAND --help` and `sbx help COMMAND` show usage, options and examples."""
    text = sbx("run", "--help", check=True).stdout

    assert text.startswith("Usage:  sbx run [OPTIONS] IMAGE [COMMAND] [ARG...]\n")
    assert "  -p, --publish list" in text
    assert "(fuse|kernel)" in text
    assert "\nExamples:\n" in text
    assert sbx("help", "run", check=True).stdout == text
    assert "prune" in sbx("container", "--help", check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu",), "sbx: 'rnu' is not a sbx command\n  hint: did you mean 'sbx run'?\n"),
        (("profile", "sohw"), "hint: did you mean 'sbx profile show'?"),
        (("--nope",), "sbx: unknown flag: --nope"),
        (("ps", "--al"), "hint: did you mean --all? See 'sbx ps --help'"),
        (("rm",), 'sbx: "sbx rm" requires at least 1 argument.'),
        (("run", "--memory", "lots", "host"), "sbx: invalid memory: 'lots'"),
        (("run", "--env-file", "nope", "host"), "sbx: no such file: nope"),
        (("run", "--pull", "never", "nope.example/nope"), "sbx: no such image: "),
        (("ps", "--format", "{{.Nope"), "sbx: template: unclosed action"),
        (("ps", "--filter", "nmae=x"), "hint: did you mean name?"),
    ],
)
def test_a_mistake_is_explained(sbx: Sbx, arguments: tuple[str, ...], message: str) -> None:
    """A mistake exits with 125 or 1, and is said in one place, without a traceback."""
    result = sbx(*arguments)

    assert result.returncode in (125, 1)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_version_is_said(sbx: Sbx) -> None:
    """As a line, as JSON, through a template."""
    short = sbx("--version", check=True).stdout
    version = json.loads(sbx("version", "--format", "json", check=True).stdout)["Version"]

    assert short == f"sbx version {version}\n"
    assert sbx("version", "--format", "{{.Version}}", check=True).stdout == f"{version}\n"


def test_nobody_reading_is_no_mistake(sbx: Sbx) -> None:
    """`sbx … | head -1` says nothing about a broken pipe."""
    process = sbx.popen("run", "--help", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    process.wait(30)


def test_the_reference_is_up_to_date() -> None:
    """docs/cli.md says what the commands' data says."""
    document = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text()

    assert document == updated(document), "python -m sandbox.cli.reference docs/cli.md"

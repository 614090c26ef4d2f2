"""`sbx exec`: another command in a running container."""

from __future__ import annotations

import pytest

from tests.sbx_command import Sbx


@pytest.fixture
def web(sbx: Sbx) -> str:
    sbx("run", "-d", "--name", "web", "-e", "A=1", "-w", "/usr", "host", "sleep", "60", check=True)
    return "web"


def test_exec_runs_in_the_containers_surroundings(sbx: Sbx, web: str) -> None:
    """Its files, variables and directory; -e and -w change them; the exit code is the command's."""
    result = sbx("exec", web, "sh", "-c", "pwd; echo $A; touch /made; exit 7")
    assert (result.stdout, result.returncode) == ("/usr\n1\n", 7)

    changed = sbx("exec", "-w", "/etc", "-e", "A=2", web, "sh", "-c", "pwd; echo $A; ls /made")
    assert changed.stdout == "/etc\n2\n/made\n"


def test_exec_passes_standard_input_on(sbx: Sbx, web: str) -> None:
    """-i connects it; without -i the command reads nothing."""
    assert sbx("exec", "-i", web, "cat", input="in\n", check=True).stdout == "in\n"
    assert sbx("exec", web, "cat", input="in\n", check=True).stdout == ""


def test_exec_in_the_background(sbx: Sbx, web: str) -> None:
    """-d returns at once, and the command goes on."""
    result = sbx(
        "exec", "-d", web, "sh", "-c", "until [ -e /go ]; do sleep 0.05; done; echo > /done"
    )
    assert (result.returncode, result.stdout) == (0, "")

    script = "echo > /go; until [ -e /done ]; do sleep 0.05; done"
    sbx("exec", web, "sh", "-c", script, check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nope", "true"), 1, "no such container: nope"),
        (("web", "no-such-command"), 127, "no-such-command"),
        (("web", "/etc/passwd"), 126, "/etc/passwd"),
        (("-it", "web", "true"), 125, "the input device is not a TTY"),
        (("-w", "usr", "web", "true"), 125, "not absolute"),
        (("web",), 125, "requires at least 2 arguments"),
    ],
)
def test_what_can_not_be_executed_is_explained(
    sbx: Sbx, web: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """docker's exit codes, and a message that names what is wrong."""
    result = sbx("exec", *arguments)

    assert result.returncode == code
    assert message in result.stderr


def test_a_container_that_has_ended_executes_nothing(sbx: Sbx) -> None:
    """The error says that it isn't running."""
    sbx("run", "--name", "job", "host", "true", check=True)

    result = sbx("exec", "job", "true")

    assert result.returncode == 1
    assert "is not running" in result.stderr

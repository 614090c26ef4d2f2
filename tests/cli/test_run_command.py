"""`sbx run` from the outside: exit codes, identity, environment, detaching."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.sbx_command import Sbx


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 3"), 3),
        (("sh", "-c", "kill -TERM $$; sleep 9"), 143),
        (("no-such-command",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_the_exit_code_is_that_of_the_command(
    sbx: Sbx, command: tuple[str, ...], code: int
) -> None:
    """As docker: the command's own code, 128 + signal, 127 not found, 126 not executable."""
    result = sbx("run", "--rm", "--init", "host", *command)

    assert result.returncode == code, result.stderr


@pytest.mark.parametrize("keep", [(), ("--rm",)])
def test_who_is_left_ends_with_the_command(sbx: Sbx, keep: tuple[str, ...]) -> None:
    """With --init, too: its end is that of all, also of what the command left in the background."""
    script = "trap '' TERM HUP; sleep 1000 >/dev/null 2>&1 & exit 3"

    result = sbx("run", *keep, "--init", "--name=left", "host", "sh", "-c", script)

    assert result.returncode == 3, result.stderr
    assert "sleep" not in [_program(process.pid) for process in sbx.mark.processes()]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_output_and_errors_stay_apart(sbx: Sbx) -> None:
    """Without -t, stdout and stderr are two streams; -i passes standard input on."""
    result = sbx("run", "--rm", "-i", "host", "sh", "-c", "cat; echo err >&2", input="in\n")

    # A note may come first: what a user without subordinate ids is told once.
    assert (result.stdout, result.stderr.splitlines()[-1]) == ("in\n", "err")


def test_variables_and_places_are_as_asked(sbx: Sbx, tmp_path: Path) -> None:
    """-e, --env-file, -w and --hostname reach the command."""
    (tmp_path / "env").write_text("B=file\nC=file\n")

    result = sbx(
        *("run", "--rm", "--hostname", "there", "-w", "/usr", "-e", "A", "-e", "B=cli"),
        *("--env-file", tmp_path / "env", "host", "sh", "-c", "pwd; hostname; echo $A $B $C"),
        env={"A": "outside"},
        check=True,
    )

    assert result.stdout == "/usr\nthere\noutside cli file\n"


def test_the_callers_environment_stays_outside(sbx: Sbx) -> None:
    """Only what is asked for is passed on."""
    result = sbx("run", "--rm", "host", "env", env={"SECRET_TOKEN": "x"}, check=True)

    assert "SECRET_TOKEN" not in result.stdout
    assert "PATH=/usr/local/sbin:" in result.stdout


def test_a_detached_container_says_its_id(sbx: Sbx, tmp_path: Path) -> None:
    """-d prints the full id, which --cidfile holds as well."""
    cidfile = tmp_path / "cid"
    result = sbx("run", "-d", "--cidfile", cidfile, "host", "sleep", "60", check=True)

    assert re.fullmatch(r"[0-9a-f]{64}\n", result.stdout)
    assert cidfile.read_text() == result.stdout.strip()
    assert sbx.containers() == [result.stdout.strip()]


def test_a_cidfile_is_never_overwritten(sbx: Sbx, tmp_path: Path) -> None:
    """An existing file is an error, and a container that never ran leaves none."""
    cidfile = tmp_path / "cid"
    cidfile.write_text("other")

    assert sbx("run", "--cidfile", cidfile, "host", "true").returncode == 125
    assert cidfile.read_text() == "other"

    fresh = tmp_path / "fresh"
    assert sbx("run", "--rm", "--cidfile", fresh, "host", "no-such-command").returncode == 127
    assert not fresh.exists()


def test_a_name_belongs_to_one_container(sbx: Sbx) -> None:
    """A second container of the same name is refused; without --name one is made up."""
    sbx("run", "-d", "--name", "web", "host", "sleep", "60", check=True)
    sbx("run", "-d", "host", "sleep", "60", check=True)

    again = sbx("run", "--name", "web", "host", "true")

    assert again.returncode != 0
    assert 'the container name "web" is in use' in again.stderr
    names = sbx("ps", "--format", "{{.Names}}", check=True).stdout.split()
    assert "web" in names
    assert re.fullmatch(r"[a-z]+_[a-z]+", next(name for name in names if name != "web"))


def test_mounts_are_there_as_asked(sbx: Sbx, tmp_path: Path) -> None:
    """-v binds relative paths too, ro is read-only, --tmpfs has its size, volumes keep content."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("content\n")

    result = sbx(
        *(
            "run",
            "--rm",
            "-v",
            "./data:/data:ro",
            "--tmpfs",
            "/scratch:size=1m",
            "-v",
            "kept:/kept",
        ),
        *("host", "sh", "-c", "cat /data/file; touch /data/x; echo kept > /kept/file; df /scratch"),
        cwd=tmp_path,
    )
    again = sbx("run", "--rm", "-v", "kept:/kept", "host", "cat", "/kept/file", check=True)

    assert result.stdout.startswith("content\n")
    assert "Read-only file system" in result.stderr
    assert re.search(r"tmpfs\s+1024\s", result.stdout)
    assert again.stdout == "kept\n"


def test_one_source_can_be_in_several_places(sbx: Sbx, tmp_path: Path) -> None:
    """A directory or device that is mounted twice is there twice."""
    (tmp_path / "file").write_text("content\n")

    result = sbx(
        *("run", "--rm", "-v", f"{tmp_path}:/a", "-v", f"{tmp_path}:/b:ro"),
        *("--device", "/dev/null", "--device", "/dev/null:/dev/other", "host"),
        *("sh", "-c", "cat /a/file /b/file; touch /a/x && touch /b/x; echo gone > /dev/other"),
    )

    assert result.stdout == "content\ncontent\n"
    assert "Read-only file system" in result.stderr


def test_output_ends_at_its_limit(sbx: Sbx) -> None:
    """Not a byte more than --output-limit arrives, and the container is killed."""
    result = sbx("run", "--rm", "--output-limit", "100k", "host", "yes")

    assert len(result.stdout) == 100 << 10
    assert result.returncode == 137
    assert result.stderr.endswith("more than 102400 bytes of output\n")


def test_what_dev_writes_belongs_to_the_caller(sbx: Sbx, tmp_path: Path) -> None:
    """--profile dev starts in the current directory; files made there are one's own."""
    result = sbx(
        *("run", "--rm", "--profile", "dev", "host", "sh", "-c", "pwd; echo x > made"), cwd=tmp_path
    )

    assert result.stdout == f"{tmp_path}\n", result.stderr
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_a_missing_directory_is_not_made(sbx: Sbx, tmp_path: Path) -> None:
    """A mistyped path of -v is an error instead of a new directory."""
    result = sbx("run", "--rm", "-v", f"{tmp_path}/nope:/data", "host", "true")

    assert result.returncode == 125
    assert "nope" in result.stderr
    assert not (tmp_path / "nope").exists()


def test_an_own_profile_is_used(sbx: Sbx) -> None:
    """A profile in the configuration directory sets defaults; the command line wins."""
    directory = Path(sbx.environ["XDG_CONFIG_HOME"]) / "sbx/profiles"
    directory.mkdir(parents=True)
    (directory / "mine.toml").write_text(
        'extends = "default"\n[process]\nenv = { A = "profile", B = "profile" }\n'
        '[filesystem]\ntmpfs = ["/mine"]\nread_only = true\n'
    )

    result = sbx(
        *("run", "--rm", "--profile", "mine", "-e", "B=cli", "host"),
        *("sh", "-c", "echo $A $B; touch /mine/x && touch /x"),
    )

    assert result.stdout == "profile cli\n"
    assert "Read-only file system" in result.stderr


def test_debug_prints_the_plan(sbx: Sbx) -> None:
    """--debug shows what is done, on stderr, and the command runs all the same."""
    result = sbx("run", "--rm", "--debug", "host", "echo", "ran", check=True)

    assert result.stdout == "ran\n"
    assert "/proc" in result.stderr


def test_every_group_may_ping_and_bind_any_port(sbx: Sbx) -> None:
    """Ping sockets and ports below 1024 need no privilege inside, whatever the group is."""
    code = """
import os, socket
if os.fork() == 0:
    os.setgid(33)
    os.setuid(33)
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    socket.create_server(("127.0.0.1", 81))
    print("both", flush=True)
    os._exit(0)
os.wait()
"""
    result = sbx("run", "--rm", "--network", "none", "host", "/usr/bin/python3", "-c", code)

    assert result.stdout == "both\n", result.stderr

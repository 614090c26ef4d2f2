"""`sbx logs`: what was printed, chosen, followed and rotated."""

from __future__ import annotations

import re
import subprocess

from tests.sbx_command import Sbx


def _run(sbx: Sbx, script: str, *options: str) -> None:
    sbx("run", "-d", "--name", "job", *options, "host", "sh", "-c", script, check=True)


def test_logs_keep_the_streams_apart(sbx: Sbx) -> None:
    """What went to stderr goes to stderr, also after the end."""
    _run(sbx, "echo out; echo err >&2; printf unfinished")
    sbx("wait", "job", check=True)

    result = sbx("logs", "job", check=True)

    assert (result.stdout, result.stderr) == ("out\nunfinished", "err\n")


def test_logs_can_be_chosen(sbx: Sbx) -> None:
    """--tail counts lines from the end, --since and --until cut by time, -t shows it."""
    _run(sbx, "seq 1 5", "--label", "a=1")
    sbx("wait", "job", check=True)

    assert sbx("logs", "--tail", "2", "job", check=True).stdout == "4\n5\n"
    assert sbx("logs", "-n", "0", "job", check=True).stdout == ""
    assert sbx("logs", "--tail", "all", "job", check=True).stdout == "1\n2\n3\n4\n5\n"
    assert sbx("logs", "--since", "10m", "job", check=True).stdout.count("\n") == 5
    assert sbx("logs", "--until", "10m", "job", check=True).stdout == ""
    assert sbx("logs", "--since", "2100-01-01", "job", check=True).stdout == ""
    stamped = sbx("logs", "-t", "--details", "-n1", "job", check=True).stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z a=1 5\n", stamped)
    assert sbx("logs", "--tail", "x", "job").returncode == 125


def test_following_sees_lines_as_they_come_and_ends_with_the_container(sbx: Sbx) -> None:
    """-f prints what was there, then each line, then ends by itself."""
    _run(sbx, "echo first; read line; echo $line; read line", "-i")
    follower = sbx.popen("logs", "-f", "job", stdout=subprocess.PIPE)
    assert follower.stdout is not None
    with follower.stdout as lines:
        assert lines.readline() == b"first\n"
        sbx("kill", "job", check=True)
        assert lines.read() == b""
    assert follower.wait(30) == 0


def test_following_loses_nothing_to_rotation(sbx: Sbx) -> None:
    """Files that are rotated while they are read are read to their ends."""
    _run(
        *(sbx, "for i in $(seq 1 40); do seq 1 20; sleep 0.02; done; echo end"),
        *("--log-opt", "max-size=16k", "--log-opt", "max-file=3"),
    )

    text = sbx("logs", "--follow", "job", check=True).stdout

    assert text == "".join(f"{number}\n" for number in range(1, 21)) * 40 + "end\n"


def test_logs_are_capped(sbx: Sbx) -> None:
    """However much is printed, only the last part stays, in whole lines."""
    _run(sbx, "seq 1 20000", "--log-opt", "max-size=64k", "--log-opt", "max-file=2")
    sbx("wait", "job", check=True)

    lines = sbx("logs", "job", check=True).stdout.splitlines()

    assert 100 < len(lines) < 20000
    assert lines == [str(number) for number in range(20001 - len(lines), 20001)]

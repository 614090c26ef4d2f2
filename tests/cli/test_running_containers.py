"""attach, pause, top, stats, update: what is done to containers while they run."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.sbx_command import Sbx


def _start(sbx: Sbx, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
    arguments = ("run", "-d", "--name", name, "--network", "none", *options, "host", *command)
    sbx(*arguments, check=True)


def _states(sbx: Sbx, name: str) -> set[str]:
    """The states of all processes of the container (proc(5))."""
    pids = sbx("top", name, "-eo", "pid", check=True).stdout.split()[1:]
    assert pids
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in pids}


def test_attach_shares_input_and_output(sbx: Sbx) -> None:
    """Input goes in, output comes out, of one after the other, and the log has all of it."""
    _start(sbx, "copy", "cat", options=("-i",))

    for line in (b"one\n", b"two\n"):
        client = sbx.popen(
            *("attach", "--sig-proxy=false", "copy"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(line)
        client.stdin.flush()
        assert client.stdout.readline() == line
        client.terminate()
        client.communicate(timeout=20)
    assert sbx("logs", "copy", check=True).stdout == "one\ntwo\n"


def test_attach_ends_with_the_container(sbx: Sbx) -> None:
    """The exit code is the container's; signals reach it; nothing is there to attach to then."""
    script = "trap 'echo bye; exit 7' TERM; while :; do echo here; sleep 0.05; done"
    _start(sbx, "traps", "sh", "-c", script)
    client = sbx.popen("attach", "--no-stdin", "traps", stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"here\n"

    client.terminate()
    out, _ = client.communicate(timeout=20)

    assert out.endswith(b"bye\n")
    assert client.returncode == 7
    gone = sbx("attach", "traps")
    assert gone.returncode == 1
    assert "sbx start traps" in gone.stderr


def test_pause_holds_every_process_still(sbx: Sbx) -> None:
    """Children and what `exec` started too; unpause lets all go on but what was stopped before."""
    _start(sbx, "busy", "sh", "-c", "sleep 1000 & kill -STOP $!; while :; do :; done")
    sbx("exec", "-d", "busy", "sh", "-c", "while :; do :; done", check=True)

    assert sbx("pause", "busy", check=True).stdout == "busy\n"
    assert _states(sbx, "busy") <= {"T", "S", "D"}
    assert "(Paused)" in sbx("ps", check=True).stdout
    assert sbx("inspect", "-f", "{{.State.Status}} {{.State.Paused}}", "busy").stdout == (
        "paused true\n"
    )
    assert "is already paused" in sbx("pause", "busy").stderr
    assert "sbx unpause busy" in sbx("exec", "busy", "true").stderr

    sbx("unpause", "busy", check=True)
    assert "R" in _states(sbx, "busy")
    assert "T" in _states(sbx, "busy")
    assert "is not paused" in sbx("unpause", "busy").stderr
    sbx("pause", "busy", check=True)
    sbx("stop", "-t", "0", "busy", check=True)


def test_top_shows_the_containers_processes_alone(sbx: Sbx) -> None:
    """By the host's ps, with its own options."""
    _start(sbx, "job", "sh", "-c", "sleep 1234 & exec sleep 4321")
    sbx("exec", "-d", "job", "sleep", "1111", check=True)

    heading, *lines = sbx("top", "job", check=True).stdout.splitlines()
    assert heading.split()[:3] == ["UID", "PID", "PPID"]
    assert sorted(line.split()[-1] for line in lines) == ["1111", "1234", "4321"]
    own = sbx("top", "job", "-eo", "pid,args", check=True).stdout.splitlines()
    assert sorted(line.split()[-1] for line in own[1:]) == ["1111", "1234", "4321"]
    assert "no PID column" in sbx("top", "job", "-eo", "comm").stderr


def test_stats_counts_what_is_used(sbx: Sbx) -> None:
    """Processors, memory and processes, with or without a cgroup; docker's columns."""
    code = "x = bytearray(50 << 20)\nwhile True: pass"
    _start(sbx, "busy", "/usr/bin/python3", "-c", code)
    _start(sbx, "idle", "sleep", "1000")

    heading = sbx("stats", "--no-stream", "idle", check=True).stdout.splitlines()[0]
    form = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"
    lines = sbx("stats", "--no-stream", "--format", form, check=True).stdout.splitlines()

    assert heading.split()[:3] == ["CONTAINER", "ID", "NAME"]
    busy, idle = sorted(lines)
    cpu, memory = re.fullmatch(r"busy ([\d.]+)% ([\d.]+)MiB / .*GiB 1", busy).groups()  # type: ignore[union-attr]
    assert float(cpu) > 5
    assert 50 <= float(memory) < 100
    assert re.fullmatch(r"idle 0\.\d\d% .* 1", idle)


@pytest.mark.parametrize(("option", "name", "value"), [("--pids-limit", "pids", 50)])
def test_update_changes_limits(sbx: Sbx, option: str, name: str, value: int) -> None:
    """Of a stopped container for its next start; of a running one at once, or with an error."""
    sbx("create", "--name", "job", "host", "sleep", "1000", check=True)

    sbx("update", option, str(value), "job", check=True)
    sbx("start", "job", check=True)

    (shown,) = json.loads(sbx("inspect", "job", check=True).stdout)
    assert shown["Sbx"]["Limits"][name] == value
    assert name in shown["Sbx"]["Enforcement"]["Enforced"]
    running = sbx("update", option, str(value + 1), "job")
    if not shown["Sbx"]["Cgroup"]:
        assert "can't be changed without a cgroup" in running.stderr
    assert "too small" in sbx("update", "-m", "1k", "job").stderr or running.returncode


def test_a_request_that_is_none_does_not_end_the_container(sbx: Sbx) -> None:
    """Whatever is written to a supervisor's socket, it goes on."""
    _start(sbx, "job", "sleep", "1000")
    (path,) = (sbx.directory / "run/sbx").glob("c-*")

    for line in (
        b"",
        b"x\n",
        b"[]\n",
        b"1\n",
        b'{"resize": [1]}\n',
        b'{"stop": 1}\n',
        b'{"u": 1}\n',
    ):
        for extra in (b"", b'{"update": {"nonsense": 1}}\n', b'{"signal": "x"}\n'):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(line + extra)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)

    assert sbx("exec", "job", "echo", "there", check=True).stdout == "there\n"

"""create, start, restart, rename: containers that are there before they run, and again."""

from __future__ import annotations

import json
import os
import signal

from tests.sbx_command import Sbx


def _inspect(sbx: Sbx, name: str, template: str) -> str:
    return sbx("inspect", "-f", template, name, check=True).stdout.strip()


def test_a_created_container_waits_to_be_started(sbx: Sbx) -> None:
    """`create` prints the id and runs nothing; `start` runs it; what a crash leaves, stays."""
    created = sbx("create", "--name", "job", "host", "sh", "-c", "echo ran; exit 3", check=True)

    assert sbx.containers() == [created.stdout.strip()]
    assert _inspect(sbx, "job", "{{.State.Status}}") == "created"
    assert sbx("logs", "job", check=True).stdout == ""
    assert sbx("start", "job", check=True).stdout == "job\n"
    assert sbx("wait", "job", check=True).stdout == "3\n"
    assert sbx("logs", "job", check=True).stdout == "ran\n"


def test_start_goes_on_with_what_was_written(sbx: Sbx) -> None:
    """The old upper is there; -a shows the output and gives the exit code; the log grows."""
    script = "echo x >> /opt/lines; cat /opt/lines; exit 4"
    sbx("run", "--name", "job", "host", "sh", "-c", script)

    again = sbx("start", "-a", "job")

    assert (again.stdout, again.returncode) == ("x\nx\n", 4)
    assert sbx("logs", "job", check=True).stdout == "x\nx\nx\n"


def test_start_feeds_input_when_asked(sbx: Sbx) -> None:
    """-i passes standard input on, to a container that has it open."""
    sbx("create", "-i", "--name", "copy", "host", "cat", check=True)

    assert sbx("start", "-ai", "copy", input="in\n", check=True).stdout == "in\n"


def test_a_start_that_fails_keeps_the_container(sbx: Sbx) -> None:
    """The error is said and kept; several containers are started one by one."""
    sbx("create", "--name", "bad", "host", "no-such-command", check=True)
    sbx("create", "--name", "good", "host", "sleep", "1000", check=True)

    both = sbx("start", "bad", "good")

    assert both.returncode == 1
    assert both.stdout == "good\n"
    assert '"no-such-command": executable file not found' in both.stderr
    assert sbx("start", "-a", "bad").returncode == 127
    assert "no-such-command" in _inspect(sbx, "bad", "{{.State.Error}}")
    assert _inspect(sbx, "bad", "{{.State.Status}} {{.State.ExitCode}}") == "created 127"
    # As in docker: what runs already is no error.
    assert sbx("start", "good", check=True).stdout == "good\n"


def test_restart_stops_and_starts(sbx: Sbx) -> None:
    """It is a new process; one that has ended is started as well; --rm would have removed it."""
    sbx("run", "-d", "--name", "job", "--network", "none", "host", "sleep", "1000", check=True)
    sbx(
        "run", "-d", "--rm", "--name", "once", "--network=none", "host", "sleep", "1000", check=True
    )
    before = _inspect(sbx, "job", "{{.State.Pid}}")

    assert sbx("restart", "-t", "0", "job", check=True).stdout == "job\n"
    assert _inspect(sbx, "job", "{{.State.Pid}}") not in (before, "0")
    sbx("kill", "job", check=True)
    sbx("restart", "job", check=True)
    assert _inspect(sbx, "job", "{{.State.Status}}") == "running"
    assert "--rm" in sbx("restart", "once").stderr


def test_the_last_word_on_a_crash_while_it_runs_again(sbx: Sbx) -> None:
    """kill -9 of the supervisor of a started container: exited with 255, and it can be started."""
    sbx("create", "--name", "job", "host", "sleep", "1000", check=True)
    sbx("start", "job", check=True)
    (shown,) = json.loads(sbx("inspect", "job", check=True).stdout)

    os.kill(shown["Sbx"]["Supervisor"], signal.SIGKILL)
    pidfd_gone(shown["Sbx"]["Supervisor"])

    assert _inspect(sbx, "job", "{{.State.Status}} {{.State.ExitCode}}") == "exited 255"
    sbx("start", "job", check=True)


def pidfd_gone(pid: int) -> None:
    """Wait until the process is gone."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 20)[0]
    os.close(descriptor)


def test_rename_gives_another_name(sbx: Sbx) -> None:
    """Of a running container too; the old name is free at once, a taken one is refused."""
    sbx("run", "-d", "--rm", "--name", "old", "--network", "none", "host", "sleep", "9", check=True)
    sbx("create", "--name", "other", "host", "true", check=True)

    assert "in use" in sbx("rename", "old", "other").stderr
    sbx("rename", "old", "new", check=True)
    sbx("create", "--name", "old", "host", "true", check=True)

    assert _inspect(sbx, "new", "{{.Name}}") == "/new"
    sbx("kill", "new", check=True)
    sbx("wait", "new")
    # A supervisor that knew it by its old name has given up the new one.
    sbx("create", "--name", "new", "host", "true", check=True)
    assert _inspect(sbx, "old", "{{.State.Status}}") == "created"


def test_prune_takes_what_was_never_started_as_well(sbx: Sbx) -> None:
    """As in docker: what does not run is stopped."""
    sbx("create", "--name", "waiting", "host", "true", check=True)
    sbx("run", "--name", "over", "--network", "none", "host", "true", check=True)
    sbx("run", "-d", "--name", "busy", "--network", "none", "host", "sleep", "1000", check=True)

    sbx("container", "prune", "--force", check=True)

    assert sbx("ps", "-a", "--format", "{{.Names}}", check=True).stdout == "busy\n"

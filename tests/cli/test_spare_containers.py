"""Spare containers: a run that finds one ready is in all respects like one that does not."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.linux.inotify import IN_CREATE, Inotify
from tests.sbx_command import PATIENCE, Sbx

RUN = ("run", "--rm", "--network=none")
# What a program can see of how it was started.
LOOK = r"""
set -u
echo "argv $*"
env | sort
pwd; id; umask; ulimit -a; hostname
cat /etc/hostname /etc/hosts /etc/resolv.conf
ls -l /proc/self/fd | sed 's/.* \([0-9]* -> .*\)/\1/; s/pipe:.*/pipe/' | grep -v '/proc/[0-9]*/fd'
grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|NSpid|SigIgn|SigBlk)' /proc/self/status
sed 's/^[0-9]* [0-9]* [0-9]*:[0-9]* //' /proc/self/mountinfo
cat /proc/self/uid_map /proc/self/cgroup /proc/self/oom_score_adj
cat /proc/1/comm
echo output >&2
"""


@pytest.fixture
def image(sbx: Sbx, busybox_tar: Path) -> str:
    sbx("import", busybox_tar, "box", check=True)
    sbx(*RUN, "box", "true", check=True)  # what is said once to a user is said now
    return "box"


def spares(sbx: Sbx) -> list[Path]:
    """The sockets of the spares that wait or are being made."""
    return sorted((sbx.directory / "run/sbx").glob("spare-*"))


def have_spare(sbx: Sbx, *arguments: str) -> Path:
    """Run something until there is a spare like it; return its socket."""
    with Inotify() as changes:
        changes.watch(sbx.directory / "run/sbx", IN_CREATE)
        for _ in range(5):
            assert sbx(*arguments).returncode == 0
            while not spares(sbx) and select.select([changes], [], [], 1 * PATIENCE)[0]:
                changes.read()
            if found := spares(sbx):
                return found[0]
    raise AssertionError("no spare was made")


def spare_process(sbx: Sbx) -> int:
    """A pidfd of the one process that is a spare's and ready."""
    deadline = time.monotonic() + 20 * PATIENCE
    while not (found := [p.pid for p in sbx.mark.processes() if _comm(p.pid) == "sbx-spare"]):
        assert time.monotonic() < deadline, "the spare does not become ready"
        sbx.mark.wait_gone(0.05)
    (pid,) = found
    return os.pidfd_open(pid)


def _comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 10 * PATIENCE)[0])


@contextlib.contextmanager
def taken(sbx: Sbx) -> Iterator[None]:
    """What runs inside takes the one spare that there is."""
    pidfd = spare_process(sbx)
    yield
    # One that was taken ends with its container; one that was not would wait on.
    assert has_ended(pidfd), "the spare was not taken"
    os.close(pidfd)


def test_a_spare_is_what_was_asked_for(sbx: Sbx, image: str) -> None:
    """A program sees the same in a spare container as in one that was made for it."""
    asked = (
        *(*RUN, "--name", "asked", "--hostname", "here", "-e", "A=b c", "-w", "/tmp", "-u", "0:0"),
        *(image, "sh", "-c", LOOK, "name", "one two", "ü"),
    )
    usual = sbx(*asked, env={"SBX_SPARE": "off"})
    have_spare(sbx, *RUN, image, "true")

    with taken(sbx):
        spare = sbx(*asked)

    assert spare.stderr == usual.stderr
    assert spare.stdout.splitlines() == usual.stdout.splitlines()
    assert "argv one two ü" in spare.stdout
    assert spare.returncode == usual.returncode == 0


@pytest.mark.parametrize("command", ["exit 7", "kill -9 $$", "exec nothing-of-that-name"])
def test_exit_codes_come_through(sbx: Sbx, image: str, command: str) -> None:
    """The exit code and the messages are those of the same command in a container of its own."""
    asked = (*RUN, image, "sh", "-c", f"({command}); exit $?")
    usual = sbx(*asked, env={"SBX_SPARE": "off"})
    have_spare(sbx, *RUN, image, "true")

    with taken(sbx):
        spare = sbx(*asked)

    assert (spare.returncode, spare.stdout) == (usual.returncode, usual.stdout)
    assert spare.stderr == usual.stderr


def test_a_command_that_can_not_be_executed_is_said(sbx: Sbx, image: str) -> None:
    """127 and docker's words, and nothing is left of the container."""
    have_spare(sbx, *RUN, image, "true")

    with taken(sbx):
        result = sbx(*RUN, image, "nothing-of-that-name")

    assert result.returncode == 127
    assert "executable file not found in $PATH" in result.stderr
    assert sbx.containers() == []


def test_a_name_in_use_is_an_error_here_too(sbx: Sbx, image: str) -> None:
    """125 for a conflict, as before any container."""
    sbx("run", "--name", "mine", "--network=none", image, "true", check=True)
    have_spare(sbx, *RUN, image, "true")

    with taken(sbx):
        result = sbx(*RUN, "--name", "mine", image, "true")

    assert result.returncode == 125
    assert 'name "mine" is in use' in result.stderr
    assert len(sbx.containers()) == 1


def test_a_detached_container_outlives_launcher_and_client(sbx: Sbx, image: str) -> None:
    """A spare belongs to the launcher; a container made of it does not."""
    have_spare(sbx, "run", "-d", "--rm", "--network=none", image, "true")

    name = sbx("run", "-d", "--rm", "--network=none", image, "sleep", "100", check=True).stdout
    sbx.end_launchers()

    assert sbx("exec", name.strip(), "echo", "there", check=True).stdout == "there\n"
    assert json.loads(sbx("inspect", name.strip()).stdout)[0]["State"]["Status"] == "running"


def test_standard_input_and_output_are_the_client_s(sbx: Sbx, image: str) -> None:
    """What is piped in comes out, whole."""
    have_spare(sbx, *RUN, "-i", image, "true")
    text = "line\n" * 100_000

    with taken(sbx):
        assert sbx(*RUN, "-i", image, "cat", input=text, check=True).stdout == text


def test_other_limits_are_not_served_from_a_spare(sbx: Sbx, image: str) -> None:
    """What was set up with other limits is not used, however alike."""
    have_spare(sbx, *RUN, image, "true")
    pidfd = spare_process(sbx)

    limited = sbx(*RUN, "--ulimit", "nofile=77", image, "sh", "-c", "ulimit -n", check=True)
    smaller = sbx(*RUN, "--shm-size", "1m", image, "grep", "shm", "/proc/mounts", check=True)

    assert limited.stdout == "77\n"
    assert "size=1024k" in smaller.stdout
    assert not select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)


def test_an_image_that_changed_is_not_served_from_a_spare(
    sbx: Sbx, image: str, busybox_tar: Path
) -> None:
    """After the name has been given to another image, or the same was unpacked anew, a run sees
    what is there now."""
    have_spare(sbx, *RUN, image, "true")

    sbx("rmi", "--force", image, check=True)
    sbx("import", "--change", "ENV NEW=yes", busybox_tar, image, check=True)

    assert sbx(*RUN, image, "sh", "-c", "ls /bin/busybox; echo $NEW", check=True).stdout == (
        "/bin/busybox\nyes\n"
    )


def test_what_is_written_in_one_container_is_not_in_the_next(sbx: Sbx, image: str) -> None:
    """No spare is used twice."""
    for _ in range(4):
        found = sbx(*RUN, image, "sh", "-c", "ls /tmp /mine; echo x >/mine; echo x >/tmp/mine")
        assert "mine\n" not in found.stdout


def test_spares_are_nobody_s_containers(sbx: Sbx, image: str) -> None:
    """They are in no list, and nothing that removes containers stumbles over them."""
    have_spare(sbx, *RUN, image, "true")

    assert sbx("ps", "--all", "--quiet", check=True).stdout == ""
    sbx("system", "prune", "--force", check=True)
    assert sbx(*RUN, image, "echo", "fine", check=True).stdout == "fine\n"


def test_a_spare_ends_with_its_launcher(sbx: Sbx, image: str) -> None:
    """Nothing runs on behind a launcher that is gone, and its directory goes as well."""
    socket = have_spare(sbx, *RUN, image, "true")
    pidfd = spare_process(sbx)

    sbx.end_launchers()

    assert has_ended(pidfd)
    os.close(pidfd)
    assert not socket.exists()
    assert not list((sbx.directory / "data/sbx/containers").glob("spare-*"))


def test_a_killed_spare_is_in_nobody_s_way(sbx: Sbx, image: str) -> None:
    """After kill -9 of a spare the next run works, and `sbx ps` has removed what was left."""
    have_spare(sbx, *RUN, image, "true")
    pidfd = spare_process(sbx)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert has_ended(pidfd)
    os.close(pidfd)

    assert sbx(*RUN, image, "echo", "fine", check=True).stdout == "fine\n"
    with contextlib.suppress(FileNotFoundError):
        sbx.end_launchers()
    sbx("ps", check=True)

    assert not list((sbx.directory / "data/sbx/containers").glob("spare-*"))


def test_they_can_be_turned_off(sbx: Sbx, image: str) -> None:
    """SBX_SPARE=off neither uses nor makes any."""
    for _ in range(4):
        sbx(*RUN, image, "true", env={"SBX_SPARE": "off"}, check=True)

    assert spares(sbx) == []


def test_who_comes_while_a_spare_is_made_waits_for_it(sbx: Sbx, image: str) -> None:
    """One run after the other, without a pause: each finds its spare in another state of making."""
    for number in range(40):
        result = sbx(*RUN, image, "sh", "-c", f"exit {number}")
        assert (result.returncode, result.stderr) == (number, "")

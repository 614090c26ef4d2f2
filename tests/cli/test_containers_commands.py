"""ps, inspect, port, stop, kill, wait, rm, prune: several containers by names and ids."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.sbx_command import Sbx

BEST_EFFORT = ("--cgroups", "best-effort")


def _start(sbx: Sbx, name: str, *options: str, script: str = "exec sleep 60") -> str:
    started = sbx("run", "-d", "--name", name, *options, "host", "sh", "-c", script, check=True)
    return started.stdout.strip()


def test_ps_shows_what_runs_and_all_what_has_ended(sbx: Sbx) -> None:
    """docker's columns, states and words."""
    running = _start(sbx, "up")
    _start(sbx, "down", script="exit 3")
    assert sbx("wait", "down", check=True).stdout == "3\n"

    heading, *lines = sbx("ps", check=True).stdout.splitlines()
    assert re.split(r"\s{2,}", heading) == [
        *("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
    ]
    assert len(lines) == 1
    assert re.match(
        rf'{running[:12]}   host      "sh -c exec sleep 60" +.* ago +Up .* up$', lines[0]
    )

    every = sbx("ps", "-a", check=True).stdout.splitlines()
    assert len(every) == 3
    assert re.search(r"Exited \(3\) .* ago +down$", every[1])  # the newest first


def test_ps_chooses(sbx: Sbx) -> None:
    """Filters, --last, --quiet, --no-trunc and templates."""
    one = _start(sbx, "one", "--label", "a=1", "--label", "b")
    _start(sbx, "two", "--label", "a=2", script="exit 4")
    sbx("wait", "two", check=True)

    def names(*arguments: str) -> list[str]:
        return sbx("ps", "--format", "{{.Names}}", *arguments, check=True).stdout.split()

    assert names("-a", "--filter", "label=a=1") == ["one"]
    assert names("-a", "--filter", "label=a") == ["two", "one"]
    assert names("--filter", "exited=4") == ["two"]
    assert names("--filter", "status=exited", "--filter", "status=running") == ["two", "one"]
    assert names("-a", "--filter", "name=^/t") == ["two"]
    assert names("--filter", f"id={one[:5]}") == ["one"]
    assert names("-a", "--filter", "before=two") == ["one"]
    assert names("-a", "--filter", "ancestor=host") == ["two", "one"]
    assert names("-n", "1") == ["two"]
    assert names("--latest") == ["two"]
    assert sbx("ps", "-q", "--no-trunc", check=True).stdout == f"{one}\n"
    template = '{{.ID}} {{.State}} {{.Label "a"}}'
    assert sbx("ps", "--format", template, check=True).stdout == f"{one[:12]} running 1\n"
    assert json.loads(sbx("ps", "--format", "json", check=True).stdout)["Names"] == "one"


def test_inspect_has_dockers_shape(sbx: Sbx) -> None:
    """Programs written for docker find what they look for, and sbx's own part."""
    container = _start(
        *(sbx, "web", "-e", "A=1", "--label", "x=y", "--stop-signal", "INT", "--tmpfs", "/t"),
        *("-v", "vol:/v:ro", "--ulimit", "core=0", "--hostname", "there", "-w", "/usr"),
    )

    (shown,) = json.loads(sbx("inspect", "web", check=True).stdout)

    assert shown["Id"] == container
    assert shown["Name"] == "/web"
    assert shown["Path"] == "sh"
    assert shown["Args"] == ["-c", "exec sleep 60"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["Created"])
    assert shown["State"]["Status"] == "running"
    assert shown["State"]["Running"] is True
    assert shown["State"]["Pid"] > 0
    assert shown["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert shown["Config"]["Hostname"] == "there"
    assert shown["Config"]["WorkingDir"] == "/usr"
    assert shown["Config"]["Labels"] == {"x": "y"}
    assert shown["Config"]["StopSignal"] == "SIGINT"
    assert "A=1" in shown["Config"]["Env"]
    assert shown["HostConfig"]["Tmpfs"] == {"/t": ""}
    assert shown["HostConfig"]["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    (volume,) = (mount for mount in shown["Mounts"] if mount["Type"] == "volume")
    assert (volume["Name"], volume["Destination"], volume["RW"]) == ("vol", "/v", False)
    assert shown["Sbx"]["Profile"] == "default"
    assert shown["Sbx"]["Limits"]["required"] == ["ulimits"]


def test_inspect_says_what_enforces_each_limit(sbx: Sbx) -> None:
    """Limits that hold with what holds them, the others with the reason."""
    limits = ("--memory", "64m", "--pids-limit", "50", "--storage-opt", "size=8m")
    _start(sbx, "held", *limits, "--timeout", "1h", "--ulimit", "core=0", *BEST_EFFORT)

    (shown,) = json.loads(sbx("inspect", "held", check=True).stdout)

    enforcement = shown["Sbx"]["Enforcement"]
    enforced, missing = enforcement["Enforced"], enforcement["NotEnforced"]
    assert enforced["timeout"] == "supervisor"
    assert enforced["storage_size"] == "quota of the overlay"
    assert enforced["ulimit core"] == "rlimit of each process"
    for name in ("memory", "pids"):
        assert (name in enforced) != (name in missing)


def test_inspect_counts_denials_with_explain_alone(sbx: Sbx) -> None:
    """The counts of a running and of an ended container; and whether there was any counting."""
    script = "for i in 1 2 3; do unshare --user true; done 2>/dev/null; echo done; exec sleep 60"
    _start(sbx, "explained", "--explain", script=script)
    _start(sbx, "silent", script=script)
    follow = sbx.popen("logs", "-f", "explained", stdout=subprocess.PIPE)
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"done\n"

    template = "{{.Sbx.DenialsCounted}} {{range .Sbx.Denials}}{{.syscall}}={{.count}} {{end}}"
    running = sbx("inspect", "-f", template, "explained", "silent", check=True).stdout
    sbx("kill", "explained", check=True)
    follow.communicate(timeout=60)

    assert re.fullmatch(r"true .*unshare\(.*\)=3 .*\nfalse \n", running)
    assert sbx("inspect", "-f", template, "explained", check=True).stdout in running


def test_inspect_takes_templates_and_several_names(sbx: Sbx) -> None:
    """One line each; what isn't there is said, and the rest is shown."""
    _start(sbx, "one")
    _start(sbx, "two", "--label", "x=y")
    template = "{{.Name}}={{.State.Status}}{{.Config.Labels.x}}"

    result = sbx("inspect", "-f", template, "one", "nope", "two")

    assert result.returncode == 1
    assert "no such object: nope" in result.stderr
    assert result.stdout == "/one=running\n/two=runningy\n"

    (image,) = json.loads(sbx("inspect", "--type", "image", "host", check=True).stdout)
    assert "Config" in image


def test_stop_ends_gently_then_not(sbx: Sbx) -> None:
    """The stop signal first; SIGKILL to what doesn't heed it."""
    _start(sbx, "heeds", script="trap 'echo bye; exit 5' TERM; sleep 60 & wait")
    _start(sbx, "ignores", script="trap '' TERM; echo ready; sleep 60")
    sbx("logs", "heeds", check=True)

    stopped = sbx("stop", "--timeout", "1", "heeds", "ignores", "nope")

    assert stopped.returncode == 1
    assert stopped.stdout == "heeds\nignores\n"
    assert "no such container: nope" in stopped.stderr
    assert sbx("wait", "ignores", check=True).stdout == "137\n"
    assert sbx("stop", "ignores", check=True).stdout == "ignores\n"


def test_kill_sends_the_signal_that_is_named(sbx: Sbx) -> None:
    """Any signal by name or number; a container that has ended can't be killed."""
    _start(sbx, "web", script="trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done")
    follower = sbx.popen("logs", "--follow", "web", stdout=subprocess.PIPE)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"ready\n"

    sbx("kill", "-s", "HUP", "web", check=True)
    assert follower.stdout.readline() == b"hup\n"

    sbx("kill", "web", check=True)
    assert follower.stdout.read() == b""
    follower.stdout.close()
    assert follower.wait(30) == 0
    again = sbx("kill", "web")
    assert again.returncode == 1
    assert "container web is not running" in again.stderr


def test_rm_removes_what_has_ended_or_is_forced(sbx: Sbx) -> None:
    """A running container stays unless --force is given; names and short ids serve."""
    running = _start(sbx, "up")
    ended = _start(sbx, "down", script="true")
    sbx("wait", "down", check=True)

    assert sbx("rm", "up").returncode == 1
    assert sbx("rm", ended[:8], check=True).stdout == f"{ended[:8]}\n"
    forced = sbx("rm", "-f", running[:12], "nope", check=True)
    assert forced.stdout == f"{running[:12]}\n"
    assert "no such container: nope" in forced.stderr
    assert sbx.containers() == []


def test_anonymous_volumes_can_go_with_their_container(sbx: Sbx) -> None:
    """`rm -v` removes them, and never a named one."""
    _start(sbx, "web", "-v", "/anonymous", "-v", "named:/named", script="true")
    sbx("wait", "web", check=True)
    volumes = sbx.directory / "data/sbx/volumes"
    assert len(list(volumes.iterdir())) == 2

    sbx("rm", "-v", "web", check=True)

    assert [volume.name for volume in volumes.iterdir()] == ["named"]

    sbx("run", "--rm", "-v", "/anonymous", "host", "true", check=True)
    assert [volume.name for volume in volumes.iterdir()] == ["named"]


def test_prune_removes_what_has_ended(sbx: Sbx) -> None:
    """Only after a yes, or with --force; what runs stays."""
    running = _start(sbx, "up")
    ended = _start(sbx, "down", script="true")
    sbx("wait", "down", check=True)

    refused = sbx("container", "prune", input="n\n", check=True)
    assert "Are you sure" in refused.stdout
    assert len(sbx.containers()) == 2

    assert sbx("container", "prune", "-f", check=True).stdout == f"{ended}\n"
    assert sbx.containers() == [running]


@pytest.mark.parametrize("command", ["stop", "kill", "rm", "logs", "inspect", "wait", "port"])
def test_what_is_not_there_is_an_error(sbx: Sbx, command: str) -> None:
    """Every command names the container that it didn't find and exits with 1."""
    result = sbx(command, "nope")

    assert result.returncode == 1
    assert "nope" in result.stderr

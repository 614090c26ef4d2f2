"""Limits from a login session, whose cgroup is not ours to divide: systemd gives a scope."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.doctor import resource_limits
from sandbox.doctor.check import Host
from sandbox.linux import cgroups_systemd
from sandbox.linux.cgroups_systemd import NoScope
from sandbox.linux.inotify import IN_DELETE, Inotify
from sandbox.paths import Paths
from tests.vm.cell import ROOT, new_id
from tests.vm.user_systemd import PROGRAM, user_systemd

pytestmark = pytest.mark.vm
DELEGATED = Path("/sys/fs/cgroup/user")

# A supervisor in an application's cgroup: it makes a container's, says where, and waits.
SUPERVISOR = """
import json, os, sys
from sandbox.linux import cgroups
from sandbox.spec import Limits
limits = Limits(memory=32 << 20, pids=20, cpus=0.5, required=("memory", "pids", "cpus"))
prepared = cgroups.prepare(sys.argv[1], limits)
own = open("/proc/self/cgroup").read().strip()
print(json.dumps([prepared.cgroup.path, dict(prepared.enforcement.enforced), own]), flush=True)
if sys.stdin.readline():
    print(json.dumps(prepared.cgroup.remove()), flush=True)
"""


@pytest.fixture(scope="module")
def login() -> Iterator[tuple[Path, dict[str, str]]]:
    """A session's application cgroup, and the environment of programs in it."""
    if not os.path.exists(PROGRAM):
        pytest.skip("needs systemd")
    with user_systemd(DELEGATED) as (service, environ):
        application = service / "app.slice/terminal.scope"
        application.mkdir(parents=True)
        yield application, environ


def supervise(
    login: tuple[Path, dict[str, str]], identity: str
) -> tuple[subprocess.Popen[str], str, dict[str, str], str]:
    application, environ = login
    shell = f'echo $$ >{application}/cgroup.procs; exec "$0" -c "$@"'
    process = subprocess.Popen(
        ["sh", "-c", shell, sys.executable, SUPERVISOR, identity],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
    )
    assert process.stdout is not None
    return process, *json.loads(process.stdout.readline())


def test_a_scope_of_its_own_enforces_the_limits(login: tuple[Path, dict[str, str]]) -> None:
    """Asked over D-Bus; the supervisor is in the scope too, beside the container's cgroup."""
    identity = new_id()
    unit = f"sbx-{identity[:12]}"
    process, path, enforced, own = supervise(login, identity)
    with process:
        assert path.endswith(f"/app.slice/{unit}.scope/{unit}")
        assert set(enforced) == {"memory", "pids", "cpus"}
        assert own.endswith(f"/app.slice/{unit}.scope/sbx-outside")

        said, _ = process.communicate("end\n")

    assert json.loads(said) is True
    assert not os.path.exists(path)


def test_a_process_from_elsewhere_can_join(login: tuple[Path, dict[str, str]]) -> None:
    """For `exec`: systemd moves it, even to the container's part of the scope."""
    process, path, _, _ = supervise(login, new_id())
    with process:
        sleep = subprocess.Popen(["sleep", "1000"])
        cgroups_systemd.attach(path, [sleep.pid], login[1])
        try:
            assert Path(path, "cgroup.procs").read_text().split() == [str(sleep.pid)]
        finally:
            sleep.kill()
            sleep.wait()
        process.communicate("end\n")


def test_two_containers_have_two_scopes(login: tuple[Path, dict[str, str]]) -> None:
    """Each is ended and counted by itself."""
    first, second = supervise(login, new_id()), supervise(login, new_id())

    assert os.path.dirname(first[1]) != os.path.dirname(second[1])
    for process, *_ in (first, second):
        with process:
            process.communicate("end\n")


def test_a_name_in_use_is_refused(login: tuple[Path, dict[str, str]]) -> None:
    """systemd's own words are in the error."""
    identity = new_id()
    process, *_ = supervise(login, identity)
    with process:
        with pytest.raises(NoScope, match=r"already loaded|exists"):
            cgroups_systemd.delegated_scope(f"sbx-{identity[:12]}", login[1])
        process.communicate("end\n")


def test_a_killed_supervisor_s_scope_is_removed(login: tuple[Path, dict[str, str]]) -> None:
    """Once nothing lives in the scope, systemd takes it away, with our cgroups in it."""
    process, path, *_ = supervise(login, new_id())
    scope = Path(path).parent
    with Inotify() as changes:
        changes.watch(scope.parent, IN_DELETE)
        with process:
            process.kill()
        while scope.exists():
            assert select.select([changes], [], [], 60)[0]
            changes.read()


def test_without_a_systemd_the_reason_is_told() -> None:
    """Where it was looked for is in the error."""
    with pytest.raises(NoScope, match=r"/nonexistent/systemd/private"):
        cgroups_systemd.reachable({"XDG_RUNTIME_DIR": "/nonexistent"})


def test_the_doctor_finds_it(login: tuple[Path, dict[str, str]]) -> None:
    """In a session's cgroup `sbx doctor` says that a scope can be had, and with what."""
    application, environ = login
    code = """
import os
from sandbox.doctor import resource_limits
from sandbox.doctor.check import Host
from sandbox.paths import Paths
check = resource_limits.check(Host.current(Paths.from_environ(os.environ, 1), os.environ))
print(check.state, check.found)
"""
    enter = f'echo $$ >{application}/cgroup.procs; exec "$0" "$@"'
    result = subprocess.run(
        ["sh", "-c", enter, sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        check=True,
        capture_output=True,
        text=True,
    )

    assert result.stdout.startswith("ok your systemd (")
    assert "with memory, pids, cpu, cpuset" in result.stdout


def test_the_doctor_finds_a_delegated_subtree() -> None:
    """Where a cgroup was delegated by hand its path is told."""
    environ = {"HOME": "/nonexistent"}
    host = Host.current(Paths.from_environ(environ, os.getuid()), environ)

    check = resource_limits.check(host)

    assert check.state == "ok"
    assert check.found.startswith(f"{DELEGATED} is delegated, with memory, pids")

"""What a container's processes inherit: three streams, a clean environment, nothing else."""

from __future__ import annotations

import os
import pty
import select

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

# What a descriptor leads to; the one that lists the directory is gone when it is read.
DESCRIPTORS = """
found = {}
for pid in ("self", "1"):
    for number in attempt(os.listdir, f"/proc/{pid}/fd"):
        try:
            found[f"{pid} {number}"] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            pass
answer(found)
"""


def leaked(found: dict[str, str]) -> dict[str, str]:
    return {
        name: target
        for name, target in found.items()
        if name.split()[1] not in "012" or not target.startswith(("pipe:", "/dev/null", "/dev/pts"))
    }


@pytest.mark.parametrize("launcher", ["on", "off"])
def test_no_descriptor_is_inherited(sbx: Sbx, launcher: str) -> None:
    """No socket to the supervisor or launcher, no FUSE device, no directory of the host: only
    standard streams, which are pipes; whether started warm or cold."""
    env = {"SBX_LAUNCHER": "off"} if launcher == "off" else {}
    sbx("run", "--rm", "--network", "none", "host", "true", env=env, check=True)

    found = inside.run(sbx, DESCRIPTORS, profile="default", env=env)

    assert leaked(found) == {}
    assert len(found) >= 6


def test_a_descriptor_of_the_caller_is_not_inherited(sbx: Sbx) -> None:
    """What the shell that started sbx had open does not reach the container."""
    directory = os.open("/", os.O_RDONLY)
    try:
        process = sbx.popen(
            *("run", "--rm", "--network", "none", "host"),
            *(inside.PYTHON, "-c", inside.script(DESCRIPTORS)),
            env={"SBX_LAUNCHER": "off"},
            pass_fds=[directory],
            stdout=-1,
        )
        output = process.communicate(timeout=60)[0].decode()
    finally:
        os.close(directory)

    assert leaked(inside.answer_of(output, "")) == {}


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_exec_inherits_nothing(sbx: Sbx, profile: str) -> None:
    """A process started by `sbx exec` has its streams and the container's environment alone, and
    is confined as the container is."""
    inside.start(sbx, "answer('up'); time.sleep(1000)", profile=profile, name="target")
    confined = """
    status = dict(line.split(":\\t", 1) for line in read("/proc/self/status").splitlines())
    answer([status[name] for name in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")])
    """

    found = inside.exec_(sbx, "target", DESCRIPTORS)
    status = inside.exec_(sbx, "target", confined)

    own = {name: target for name, target in found.items() if name.startswith("self")}
    assert leaked(own) == {}
    capabilities = "00000000800405fb" if profile == "default" else "0000000000000000"
    assert status == [capabilities, capabilities, "1", "2"]


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_the_environment_is_not_inherited(sbx: Sbx, profile: str) -> None:
    """Neither the caller's variables nor the launcher's reach the container or `exec`."""
    secret = {"AWS_SECRET_ACCESS_KEY": "hunter2"}
    code = "answer(sorted(os.environ))"

    found = inside.run(sbx, code, profile=profile, env=secret)
    inside.start(sbx, "time.sleep(1000)", profile=profile, name="target")
    in_exec = inside.exec_(sbx, "target", code, env=secret)

    assert set(found) <= {"PATH", "HOME", "HOSTNAME", "LC_CTYPE"}
    assert set(in_exec) <= {"PATH", "HOME", "HOSTNAME", "LC_CTYPE", "TERM"}


def test_the_user_s_terminal_is_not_the_container_s(sbx: Sbx) -> None:
    """Started from a terminal, the container has no way to it: not as a stream, not as /dev/tty."""
    code = """
    answer([attempt(os.open, "/dev/tty", os.O_RDWR), [os.isatty(n) for n in (0, 1, 2)],
        os.getsid(0) in (0, 1, os.getpid())])
    """
    master, slave = pty.openpty()
    process = sbx.popen(
        *("run", "--rm", "-i", "--network", "none", "host"),
        *(inside.PYTHON, "-c", inside.script(code)),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    output = b""
    while b"]" not in output.rpartition(b"\n")[0] and select.select([master], [], [], 60)[0]:
        try:
            output += os.read(master, 4096)
        except OSError:
            break
    process.wait(timeout=60)
    os.close(master)

    assert inside.answer_of(output.decode().strip(), "") == ["ENXIO", [False] * 3, True]

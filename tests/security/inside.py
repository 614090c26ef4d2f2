"""Python inside a container: what a hostile program tries, and what became of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from tests.sbx_command import Sbx

PYTHON = "/usr/bin/python3"
PROFILES = ("untrusted", "default")

# errno names say more in a failed assertion than numbers do.
_PRELUDE = """
import ctypes, errno, fcntl, glob, json, os, signal, socket, stat, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)

def attempt(function, *arguments):
    "What the function returns, or the name of the error that it raises."
    try:
        return function(*arguments)
    except OSError as err:
        return errno.errorcode.get(err.errno, str(err))

def syscall(*arguments):
    "None, or the name of the error; in a child, as a success might change this process."
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        failed = libc.syscall(*arguments) < 0
        name = errno.errorcode.get(ctypes.get_errno(), "?") if failed else ""
        os.write(writing, name.encode() or b"-")
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 64).decode()
    os.close(reading)
    os.waitpid(pid, 0)
    return None if answer == "-" else answer

def read(path):
    with open(path, "rb") as file:
        return file.read(4096).decode(errors="replace")

def write(path, text="0"):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

def answer(value):
    print(json.dumps(value), flush=True)
"""


def script(code: str) -> str:
    """Return a program: *code* with `attempt`, `syscall`, `read`, `write` and `answer`."""
    return _PRELUDE + textwrap.dedent(code)


def run(
    sbx: Sbx,
    code: str,
    *options: str,
    profile: str = "untrusted",
    image: str = "host",
    timeout: float = 60,
    env: Mapping[str, str] = {},
) -> Any:
    """Run *code* in a new container; return what it gives to `answer`.

    Limits that need cgroups are not enforced here; tests/vm is for them. The network is that of
    `untrusted` (none) unless *options* say otherwise.
    """
    network = () if "--network" in options else ("--network", "none")
    arguments = ("--rm", "--profile", profile, "--cgroups", "best-effort", *network, *options)
    result = sbx("run", *arguments, image, PYTHON, "-c", script(code), timeout=timeout, env=env)
    return answer_of(result.stdout, result.stderr)


def start(sbx: Sbx, code: str, *options: str, profile: str = "untrusted", name: str) -> None:
    """Start *code* in a detached container."""
    limits = ("--cgroups", "best-effort", "--network", "none")
    command = ("host", PYTHON, "-c", script(code))
    sbx("run", "-d", "--name", name, "--profile", profile, *limits, *options, *command, check=True)


def exec_(sbx: Sbx, container: str, code: str, *options: str, env: Mapping[str, str] = {}) -> Any:
    """Run *code* in a running container; return what it gives to `answer`."""
    result = sbx("exec", *options, container, PYTHON, "-c", script(code), env=env)
    return answer_of(result.stdout, result.stderr)


def answer_of(stdout: str, stderr: str) -> Any:
    lines = stdout.splitlines()
    assert lines, f"no answer from inside:\n{stderr}"
    return json.loads(lines[-1])

"""Nothing of a container outlives it, nobody inside can get at what holds it."""

from __future__ import annotations

import ctypes
import json
import os
import signal

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

# A program that wants to stay: no death signal, no signal that it heeds, sessions of its own.
CLINGING = """
libc.prctl(1, 0)
for number in set(range(1, 65)) - {9, 19, 32, 33}:
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        libc.prctl(1, 0)
        if os.fork() == 0:
            while True:
                time.sleep(1000)
answer("up")
while True:
    time.sleep(1000)
"""


def status_of(sbx: Sbx) -> dict[str, dict[str, int]]:
    (path,) = (sbx.directory / "data/sbx/containers").glob("*/status.json")
    status = json.loads(path.read_text())
    assert isinstance(status, dict)
    return status


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_the_container_dies_with_its_supervisor(sbx: Sbx, profile: str) -> None:
    """Even a program that gave up its death signal and ignores the others ends, by the kernel
    alone, when the supervisor is killed."""
    process = sbx.popen(
        *("run", "--profile", profile, "--cgroups", "best-effort", "--network", "none", "host"),
        *(inside.PYTHON, "-c", inside.script(CLINGING)),
        stdout=-1,
        stderr=-1,
    )
    assert process.stdout is not None
    assert b"up" in process.stdout.readline()
    status = status_of(sbx)

    os.kill(status["supervisor"]["pid"], signal.SIGKILL)
    process.communicate(timeout=60)

    assert process.returncode == 125
    assert not sbx.wait_nothing_left(10)


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_stop_and_kill_end_a_program_that_clings(sbx: Sbx, profile: str) -> None:
    """`sbx stop` ends it after its time, whatever it ignores, with all that it started."""
    inside.start(sbx, CLINGING, profile=profile, name="clinging")

    sbx("stop", "--time", "0", "clinging", check=True)

    sbx("rm", "clinging", check=True)
    assert not sbx.wait_nothing_left(10)


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_signals_reach_the_container_s_own_processes_alone(sbx: Sbx, profile: str) -> None:
    """kill -9 -1 as its root ends what is inside; the supervisor reports the end."""
    code = "answer('now'); attempt(os.kill, -1, 9); attempt(os.kill, 1, 9); sys.exit(7)"
    limits = ("--profile", profile, "--cgroups", "best-effort", "--network", "none")

    result = sbx("run", "--rm", *limits, "host", inside.PYTHON, "-c", inside.script(code))

    assert result.returncode == 7
    assert os.getppid() > 0


def test_a_process_that_enters_can_not_be_traced_before_it_is_inside(sbx: Sbx) -> None:
    """While `sbx exec` starts, a program inside that has debugging rights neither reads its memory
    nor its descriptors nor its environment (CVE-2016-9962)."""
    watcher = """
    caught, seen = [], set()
    deadline = time.monotonic() + 60
    while not os.path.exists("/tmp/enough") and time.monotonic() < deadline:
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in (1, os.getpid()):
                continue
            exe = attempt(os.readlink, f"/proc/{name}/exe")
            if exe == "/usr/bin/true":
                continue
            command = attempt(read, f"/proc/{name}/cmdline")
            if exe not in ("EACCES", "ENOENT", "ESRCH"):
                caught.append(["exe", exe])
            if "exec" in str(command):
                caught.append(["cmdline", command])
            for what in ("environ", "mem", "maps"):
                got = attempt(read, f"/proc/{name}/{what}")
                # It may have executed its command meanwhile, then all of this is its own; and of
                # one that has ended all of it is empty.
                if len(got) > 10 and "/usr/bin/t" not in got and "PATH=" not in got:
                    caught.append([what, got])
            for number in range(3, 20):
                target = attempt(os.readlink, f"/proc/{name}/fd/{number}")
                if target.startswith(("socket", "/")) and exe == "EACCES":
                    caught.append(["fd", target])
            seen.add(exe)
    answer([caught[:5], "EACCES" in seen])
    time.sleep(1000)
    """
    inside.start(sbx, watcher, "--cap-add", "SYS_PTRACE", profile="default", name="watched")
    for _ in range(8):
        sbx("exec", "watched", "/usr/bin/true", check=True)
    sbx("exec", "watched", "touch", "/tmp/enough", check=True)

    process = sbx.popen("logs", "--follow", "watched", stdout=-1)
    assert process.stdout is not None
    caught, saw_one = json.loads(process.stdout.readline())
    process.kill()
    process.communicate()

    caught = [entry for entry in caught if entry[1] not in ("/usr/bin/touch", "/usr/bin/true")]
    assert caught == []
    assert saw_one or os.cpu_count() == 1


def test_a_host_s_program_is_not_executed_inside(sbx: Sbx) -> None:
    """/proc/self/exe is the host's Python until the command is executed: as a command it is
    refused, at the start and in `exec` (CVE-2019-5736)."""
    refused = sbx("run", "--rm", "--network", "none", "host", "/proc/self/exe", "-c", "print(1)")
    inside.start(sbx, "time.sleep(1000)", profile="default", name="target")
    sbx("exec", "target", "ln", "-s", "/proc/self/exe", "/usr/bin/friendly", check=True)
    by_link = sbx("exec", "target", "friendly", "-c", "print(1)")

    assert (refused.returncode, refused.stdout) == (126, "")
    assert (by_link.returncode, by_link.stdout) == (126, "")


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_working_directory_is_inside(sbx: Sbx, command: str) -> None:
    """No descriptor that sbx or its caller has open while a process starts leads out as its working
    directory (CVE-2024-21626)."""
    if command == "exec":
        inside.start(sbx, "time.sleep(1000)", profile="default", name="target")
    start = {"run": ("run", "--rm", "--network", "none"), "exec": ("exec",)}[command]
    where = {"run": "host", "exec": "target"}[command]
    leaked = os.open(sbx.directory, os.O_RDONLY)
    try:
        for number in {leaked, *range(3, 13)}:
            process = sbx.popen(
                *(*start, "-w", f"/proc/self/fd/{number}", where, "sh", "-c", "pwd -P; ls -a"),
                env={"SBX_LAUNCHER": "off"},
                pass_fds=[leaked],
                stdout=-1,
                stderr=-1,
            )
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0 or b"working directory" in errors
            assert process.returncode != 0 or output.startswith(b"/\n")
            assert b"config" not in output
    finally:
        os.close(leaked)


def test_the_session_keyring_is_not_the_user_s(sbx: Sbx) -> None:
    """A key of the session that started sbx is not found from inside, even without a filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        os._exit(_search_with_a_key(sbx, libc))
    outcome = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    if outcome == 77:
        pytest.skip("needs keyrings (keyctl(2))")
    assert outcome == 0


def _search_with_a_key(sbx: Sbx, libc: ctypes.CDLL) -> int:
    """0: not found inside; 1: found; 77: no keyrings here. In a child, as its session is new."""
    add_key, keyctl, session = 248, 250, -3
    if libc.syscall(keyctl, 1, 0) < 0:
        return 77
    if libc.syscall(add_key, b"user", b"sbx-test", b"secret", 6, session) < 0:
        return 77
    if libc.syscall(keyctl, 10, session, b"user", b"sbx-test", 0) < 0:
        return 77
    code = f"answer(syscall({keyctl}, 10, {session}, b'user', b'sbx-test', 0))"
    options = ("--security-opt", "seccomp=unconfined")
    env = {"SBX_LAUNCHER": "off"}
    return int(inside.run(sbx, code, *options, profile="default", env=env) is None)

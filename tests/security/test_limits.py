"""Room, output and time are limited without cgroups; the rest is in tests/vm/test_untrusted.py."""

from __future__ import annotations

import time

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

FILL = """
def fill(place, limit):
    "MiB written before it is refused, and the refusal."
    total, block = 0, b"x" * (1 << 20)
    try:
        with open(place + "/big", "wb", 0) as file:
            while total < limit << 20:
                total += file.write(block)
    except OSError as err:
        return [total >> 20, errno.errorcode[err.errno]]
    finally:
        attempt(os.unlink, place + "/big")
    return [total >> 20, None]

def crowd(place, limit):
    "Files made before it is refused, and the refusal."
    os.mkdir(place + "/many")
    for count in range(limit):
        try:
            os.close(os.open(f"{place}/many/{count}", os.O_CREAT | os.O_WRONLY))
        except OSError as err:
            return [count, errno.errorcode[err.errno]]
    return [limit, None]
"""


def test_the_disk_can_not_be_filled(sbx: Sbx) -> None:
    """The overlay's quota holds for plain writes, removed but open files, sparse files that are
    written through a mapping, preallocation, copy-up and extended attributes."""
    code = """
    def removed():
        held = []
        for number in range(100):
            held.append(open(f"/opt/{number}", "wb", 0))
            os.unlink(f"/opt/{number}")
            held[-1].write(b"x" * (1 << 20))
    def mapped():
        import mmap
        with open("/opt/sparse", "w+b") as file:
            file.truncate(64 << 20)
            if os.fork() == 0:
                try:
                    area = mmap.mmap(file.fileno(), 64 << 20)
                    for offset in range(0, 64 << 20, 4096):
                        area[offset] = 1
                    area.flush()
                finally:
                    os._exit(0)
            os.wait()
            return os.fstat(file.fileno()).st_blocks >> 11
    def preallocated():
        with open("/opt/pre", "w+b") as file:
            os.posix_fallocate(file.fileno(), 0, 64 << 20)
    def attributes():
        for number in range(4000):
            open(f"/opt/x{number}", "w").close()
            os.setxattr(f"/opt/x{number}", "user.a", b"x" * 3000)
    def copied():
        for path in sorted(glob.glob("/usr/lib/*/lib*.so*"), key=os.path.getsize)[-200:]:
            os.chmod(path, 0o644)
    def clear():
        for path in glob.glob("/opt/*"):
            attempt(os.unlink, path)
    found = {"plain": fill("/opt", 64)}
    for kind in (removed, mapped, preallocated, attributes, copied):
        clear()
        found[kind.__name__] = attempt(kind)
    answer(found)
    """
    found = inside.run(sbx, FILL + _dedent(code), "--storage-opt", "size=8m", timeout=120)

    written, refusal = found.pop("plain")
    assert (written <= 8, refusal) == (True, "ENOSPC")
    assert found.pop("mapped") <= 8
    assert found == dict.fromkeys(("removed", "preallocated", "attributes", "copied"), "ENOSPC")


def test_inodes_can_not_be_used_up(sbx: Sbx) -> None:
    """The overlay's quota counts files, directories, links, FIFOs and whiteouts."""
    code = """
    found = [crowd("/opt", 1000)]
    makers = (lambda p: os.mkdir(p), lambda p: os.symlink("x", p), lambda p: os.mkfifo(p))
    found += [attempt(make, f"/opt/more{n}") for n, make in enumerate(makers)]
    answer(found)
    """
    found = inside.run(
        sbx, FILL + _dedent(code), "--storage-opt", "inodes=200", "--storage-opt", "size=64m"
    )

    assert found[0][0] <= 200
    assert found[0][1] == "ENOSPC"
    # A user without subordinate ids gets no FIFOs (EPERM) whatever the quota is.
    assert set(found[1:]) <= {"ENOSPC", "EPERM"}


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "/run", "/var/tmp", "/dev"])
def test_memory_file_systems_are_small(sbx: Sbx, place: str) -> None:
    """Each tmpfs of `untrusted` has a limit on bytes and one on inodes."""
    code = f"answer([fill({place!r}, 128), crowd({place!r}, 30000)])"

    (written, refusal), (count, crowded) = inside.run(sbx, FILL + code, timeout=120)

    assert (written <= 64, refusal) == (True, "ENOSPC")
    assert (count < 20000, crowded) == (True, "ENOSPC")


def test_output_without_end_ends_the_container(sbx: Sbx) -> None:
    """More output than the profile allows kills; the log does not grow beyond its limit either."""
    result = sbx(
        *("run", "--profile", "untrusted", "--cgroups", "best-effort", "--name", "flood"),
        *("host", "sh", "-c", "yes flood; yes flood >&2"),
        timeout=120,
    )

    assert result.returncode == 137
    assert "of output" in result.stderr
    assert len(result.stdout) < 20 << 20
    logs = (sbx.directory / "data/sbx/containers").glob("*/log.jsonl*")
    assert sum(path.stat().st_size for path in logs) < 64 << 20


def test_time_runs_out(sbx: Sbx) -> None:
    """A busy loop that ignores every signal ends when its time is over, with 124 as timeout(1)."""
    code = """
    for number in set(range(1, 65)) - {9, 19, 32, 33}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass
    """
    before = time.monotonic()
    limits = ("--profile", "untrusted", "--cgroups", "best-effort", "--timeout", "1s")
    result = sbx("run", "--rm", *limits, "host", inside.PYTHON, "-c", inside.script(code))

    assert result.returncode == 124
    assert time.monotonic() - before < 30


def test_a_fork_bomb_that_changes_its_uid_is_held(sbx: Sbx) -> None:
    """--pids-limit holds all processes together, with every id that the container can take."""
    code = """
    reading, writing = os.pipe()
    gate, opening = os.pipe()
    uids = (1, 2, 33, 1000, 65534)
    for uid in uids:
        if os.fork() == 0:
            attempt(os.setresuid, uid, uid, uid)
            os.close(opening)
            os.read(gate, 1)
            refusal = None
            while refusal != "EAGAIN":
                refusal = attempt(os.fork)
                if refusal == 0:
                    signal.pause()
            os.write(writing, b"x")
            signal.pause()
    os.close(opening)
    for _ in uids:
        os.read(reading, 1)
    answer(sum(name.isdecimal() for name in os.listdir("/proc")))
    """
    limits = ("--pids-limit", "40", "--network", "none")
    result = sbx("run", "--rm", *limits, "host", inside.PYTHON, "-c", inside.script(code))

    assert inside.answer_of(result.stdout, result.stderr) == 40


def test_exec_counts_as_well(sbx: Sbx) -> None:
    """What `sbx exec` starts is among the processes of --pids-limit, as another user too."""
    limits = ("--pids-limit", "8", "--network", "none")
    sbx("run", "-d", "--name", "full", *limits, "host", "sleep", "1000", check=True)
    code = """
    attempt(os.setresuid, 33, 33, 33)
    children = []
    while (pid := attempt(os.fork)) != "EAGAIN":
        if pid == 0:
            signal.pause()
        children.append(pid)
    answer(sum(name.isdecimal() for name in os.listdir("/proc")))
    for pid in children:
        os.kill(pid, 9)
    """
    found = inside.exec_(sbx, "full", code)

    assert found == 8


def test_limits_that_can_not_be_enforced_are_refused(sbx: Sbx) -> None:
    """A limit that was asked for is never ignored: either it holds, or nothing runs. The kernel's
    overlay has no quotas, so a size for it is refused."""
    limits = ("--overlay", "kernel", "--storage-opt", "size=8m", "--network", "none")
    result = sbx("run", "--rm", *limits, "host", "true")

    assert result.returncode != 0
    assert "size" in result.stderr or "overlay" in result.stderr


def test_the_overlay_server_does_not_grow_with_names_that_are_not_there(sbx: Sbx) -> None:
    """Asking for ever new names costs the server, which no limit holds, no memory."""
    code = """
    for number in range(30000):
        attempt(os.stat, f"/opt/no-{number}")
    answer("asked")
    time.sleep(1000)
    """
    process = sbx.popen(
        *("run", "--rm", "--profile", "untrusted", "--cgroups", "best-effort", "host"),
        *(inside.PYTHON, "-c", inside.script(code)),
        stdout=-1,
    )
    assert process.stdout is not None
    assert b"asked" in process.stdout.readline()
    memory = [
        int(found["VmRSS"].split()[0]) << 10
        for other in sbx.mark.processes()
        if (found := _status(other.pid)).get("Name") == "sbx-overlay"
    ]
    process.terminate()
    process.communicate(timeout=60)

    assert len(memory) == 1
    assert memory[0] < 80 << 20


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file)
    except OSError:
        return {}


def _dedent(code: str) -> str:
    import textwrap

    return textwrap.dedent(code)

"""Many processes at once, and nothing left over at the end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .conftest import Overlay

SECONDS = float(os.environ.get("OVERLAY_STRESS_SECONDS", "10"))
WORKERS = 4


def churn(root: Path, seed: int, until: float) -> None:
    """Random operations; what others do at the same time may fail any of them."""
    chance = random.Random(seed)
    names = [f"{a}/{b}" for a in "abcd" for b in "abcdefgh"]

    def any_name() -> Path:
        return root / chance.choice(names)

    def write() -> None:
        with any_name().open("r+b" if chance.random() < 0.5 else "wb") as file:
            file.write(bytes(chance.randrange(100_000)))

    operations: list[Callable[[], object]] = [
        write,
        write,
        lambda: any_name().read_bytes(),
        lambda: any_name().unlink(),
        lambda: any_name().rename(any_name()),
        lambda: os.link(any_name(), any_name()),
        lambda: any_name().symlink_to("x"),
        lambda: any_name().mkdir(),
        lambda: any_name().rmdir(),
        lambda: os.listdir(root / chance.choice("abcd")),
        lambda: any_name().chmod(chance.choice([0o600, 0o644])),
        lambda: os.truncate(any_name(), chance.randrange(200_000)),
        lambda: (root / chance.choice("abcd")).rename(root / chance.choice("abcdx")),
        lambda: (root / "x").rename(root / chance.choice("abcd")),
    ]
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            chance.choice(operations)()


def descriptors(pid: int) -> list[str]:
    """What the server has open."""
    names = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return sorted(names)


def server_state(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_many_processes_leave_nothing_behind(overlay: Overlay) -> None:
    """Under a load of all operations the server lives, and holds nothing after it."""
    for name in "abcd":
        (overlay.lower / name).mkdir()
        for below in "abcdefgh":
            (overlay.lower / name / below).write_text(below * 1000)
    root = overlay.merged
    server = overlay.mounted().server
    before = server_state(server)
    until = time.monotonic() + SECONDS
    workers = []
    for seed in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            try:
                churn(root, seed, until)
            finally:
                os._exit(0)
        workers.append(pid)
    for pid in workers:
        os.waitpid(pid, 0)

    for path in list(root.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert os.listdir(root) == []
    # Idle descriptors and directories are kept, but not more than the limits.
    held = server_state(server)
    assert held < before + 400, descriptors(server)
    upper = sum(len(files) + len(dirs) for _, dirs, files in os.walk(overlay.upper))
    assert upper <= 5  # whiteouts
    overlay.remount()
    assert os.listdir(overlay.merged) == []
    assert [name for name in os.listdir(overlay.work / "index") if "." not in name] == []


def test_requests_that_make_no_sense_are_errors(overlay: Overlay) -> None:
    """Odd names, sizes and offsets are refused or work; the server lives."""
    root = overlay.merged
    (root / "a").write_text("x")
    odd: list[Callable[[], object]] = [
        lambda: os.truncate(root / "a", 1 << 62),
        lambda: os.setxattr(root / "a", "user." + "n" * 250, b"x"),
        lambda: os.setxattr(root / "a", "user.x", b"x" * 65536),
        lambda: os.setxattr(root / "a", "trusted.x", b"x"),
        lambda: os.setxattr(root / "a", "system.posix_acl_access", b"nonsense"),
        lambda: os.getxattr(root / "a", "user.none"),
        lambda: (root / ("n" * 256)).touch(),
        lambda: (root / "\udcff\udcfe").touch(),
        lambda: (root / "new\nline").mkdir(),
        lambda: os.rename(root / "a", root / "a/b"),
        lambda: os.rename(root, root / "b"),
        lambda: os.utime(root / "a", ns=(-(1 << 62), 1 << 62)),
        lambda: os.chown(root / "a", 54321, 54321),
    ]
    for call in odd:
        with contextlib.suppress(OSError):
            call()
    assert (root / "a").exists()
    assert sorted(os.listdir(root)) == sorted(["a", "new\nline", "\udcff\udcfe"])


def test_clients_may_be_killed_at_any_moment(overlay: Overlay) -> None:
    """The server goes on when a process that used it is killed in the middle of anything."""
    (overlay.lower / "a").write_bytes(bytes(20 << 20))
    for _ in range(10):
        program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(1); f.write(b'x' * 10**7)"
        process = subprocess.Popen([sys.executable, "-c", program, str(overlay.merged / "a")])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (overlay.merged / "a").stat().st_size == 20 << 20

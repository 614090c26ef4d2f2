"""Compare the FUSE overlay with fuse-overlayfs and the kernel's overlay: ``make bench-overlay``.

Every row runs on each driver in turn, in one private user and mount namespace, on the same CPUs,
over the same lower; the best of several rounds counts. Times are microseconds an operation, for
whole jobs milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuse_overlay import server

libc = ctypes.CDLL(None, use_errno=True)
FILES = 1000
LARGE = 128 << 20
USR = Path("/usr")


def mount_call(source: str, target: Path, kind: str, flags: int, data: str | None) -> None:
    """mount(2)."""
    encoded = None if data is None else data.encode()
    if libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, encoded) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {kind}: {os.strerror(code)}")


@dataclass(frozen=True)
class Layers:
    """The directories of one mount."""

    lower: Path
    upper: Path
    work: Path
    merged: Path

    @property
    def options(self) -> str:
        return f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work}"


# A process of its own, as fuse-overlayfs is: a fork of this one would make it pay for the pages
# that both share. It says when it is ready, and needs nothing of /usr from then on.
SERVE = """
import os
import sys
from fuse_overlay import server
from fuse_overlay.config import Config

fd, *layers = sys.argv[1:]
server.preload()
server.serve(Config((layers[0],), *layers[1:]), int(fd), ready=lambda: os.close(1))
"""


def mount_ours(layers: Layers) -> int:
    """Our driver."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount_call("sbx", layers.merged, "fuse", 0, server.mount_options(fd))
    words = [sys.executable, "-c", SERVE, str(fd)]
    words += [str(path) for path in (layers.lower, layers.upper, layers.work)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=[fd])
    os.close(fd)
    assert process.stdout is not None
    process.stdout.read()
    process.stdout.close()
    process.returncode = 0  # waited for by pid
    return process.pid


def mount_fuse_overlayfs(layers: Layers) -> int:
    """fuse-overlayfs in the foreground."""
    words = ["fuse-overlayfs", "-f", "-o", layers.options, str(layers.merged)]
    before = os.stat(layers.merged).st_dev
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while os.stat(layers.merged).st_dev == before:
        time.sleep(0.005)
    process.returncode = 0  # waited for by pid
    return process.pid


def mount_kernel(layers: Layers) -> int:
    """The kernel's overlay, as an ordinary user can have it."""
    mount_call("overlay", layers.merged, "overlay", 0, f"userxattr,{layers.options}")
    return 0


DRIVERS: dict[str, Callable[[Layers], int]] = {
    "sbx": mount_ours,
    "fuse-overlayfs": mount_fuse_overlayfs,
    "kernel": mount_kernel,
}


@contextlib.contextmanager
def mounted(driver: str, lower: Path, base: Path) -> Iterator[tuple[Path, int]]:
    """A fresh upper over *lower*, mounted; the merged directory and the server's pid."""
    place = Path(tempfile.mkdtemp(dir=base))
    layers = Layers(lower, place / "upper", place / "work", place / "merged")
    for path in (layers.upper, layers.work, layers.merged):
        path.mkdir()
    pid = clock.server = DRIVERS[driver](layers)
    try:
        yield layers.merged, pid
    finally:
        os.chdir("/")
        subprocess.run(["umount", "-l", layers.merged], check=True)
        if pid:
            os.waitpid(pid, 0)
        (layers.work / "work").chmod(0o700)
        shutil.rmtree(place, ignore_errors=True)


# What is measured: a function of the merged directory that returns how many operations it did and
# the seconds they took.

Row = Callable[[Path], tuple[int, float]]


class Clock:
    """Wall time; or the processor time of this process, its children and the server.

    Processor time can be compared on a machine that others use, too.
    """

    def __init__(self) -> None:
        self.processor = False
        self.server = 0

    def now(self) -> float:
        if not self.processor:
            return time.perf_counter()
        children = os.times()
        return time.process_time() + children[2] + children[3] + self._server_time()

    def _server_time(self) -> float:
        if not self.server:
            return 0
        # proc(5): the first field is the time on a CPU, in nanoseconds.
        return int(Path(f"/proc/{self.server}/schedstat").read_text().split()[0]) / 1e9


clock = Clock()


def timed(count: int, call: Callable[[], object]) -> tuple[int, float]:
    start = clock.now()
    call()
    return count, clock.now() - start


def each(names: list[str], call: Callable[[str], object]) -> tuple[int, float]:
    start = clock.now()
    for name in names:
        call(name)
    return len(names), clock.now() - start


NAMES = [f"f{number}" for number in range(FILES)]


def lookup(root: Path) -> tuple[int, float]:
    os.chdir(root / "small")
    return each(NAMES, os.stat)


def getattr_(root: Path) -> tuple[int, float]:
    fd = os.open(root / "small/f0", os.O_RDONLY)
    buffer = ctypes.create_string_buffer(256)
    force_sync = 0x2000
    call = timed(
        2000, lambda: [libc.statx(fd, b"", 0x1000 | force_sync, 0xFFF, buffer) for _ in range(2000)]
    )
    os.close(fd)
    return call


def open_close(root: Path) -> tuple[int, float]:
    os.chdir(root / "small")
    each(NAMES, os.stat)
    return each(NAMES, lambda name: os.close(os.open(name, os.O_RDONLY)))


def open_read_close(root: Path) -> tuple[int, float]:
    os.chdir(root / "small")
    each(NAMES, os.stat)

    def call(name: str) -> None:
        fd = os.open(name, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)

    return each(NAMES, call)


def create_file(name: str) -> None:
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(fd, b"x" * 1000)
    os.close(fd)


def create(root: Path) -> tuple[int, float]:
    os.mkdir(root / "new")
    os.chdir(root / "new")
    return each(NAMES, create_file)


def rename(root: Path) -> tuple[int, float]:
    create(root)
    return each(NAMES, lambda name: os.rename(name, "x" + name))


def unlink(root: Path) -> tuple[int, float]:
    create(root)
    return each(NAMES, os.unlink)


def unlink_lower(root: Path) -> tuple[int, float]:
    os.chdir(root / "small")
    return each(NAMES, os.unlink)


def copy_up(root: Path) -> tuple[int, float]:
    os.chdir(root / "small")
    return each(NAMES[:300], lambda name: os.chmod(name, 0o600))


def readdir_cold(root: Path) -> tuple[int, float]:
    return timed(1, lambda: os.listdir(root / "small"))


def readdir_warm(root: Path) -> tuple[int, float]:
    os.listdir(root / "small")
    return timed(20, lambda: [os.listdir(root / "small") for _ in range(20)])


def sequential_read(root: Path) -> tuple[int, float]:
    buffer = bytearray(1 << 20)
    with (root / "large").open("rb", buffering=0) as file:
        return timed(LARGE >> 20, lambda: [0 for _ in iter(lambda: file.readinto(buffer), 0)])


def sequential_write(root: Path) -> tuple[int, float]:
    data = bytes(1 << 20)

    def call() -> None:
        with (root / "written").open("wb", buffering=0) as file:
            for _ in range(LARGE >> 20):
                file.write(data)

    return timed(LARGE >> 20, call)


def random_read(root: Path) -> tuple[int, float]:
    places = random.Random(1).sample(range(LARGE >> 12), 2000)
    fd = os.open(root / "large", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    answer = timed(len(places), lambda: [os.pread(fd, 4096, place << 12) for place in places])
    os.close(fd)
    return answer


def random_write(root: Path) -> tuple[int, float]:
    places = random.Random(1).choices(range(4096), k=4000)
    fd = os.open(root / "random", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4096 << 12)
    data = b"y" * 4096

    def call() -> None:
        for place in places:
            os.pwrite(fd, data, place << 12)
        os.close(fd)

    return timed(len(places), call)


def small_writes(root: Path) -> tuple[int, float]:
    def call() -> None:
        with (root / "log").open("wb", buffering=0) as file:
            for _ in range(5000):
                file.write(b"a line of text\n")

    return timed(5000, call)


MICRO: dict[str, Row] = {
    "lookup": lookup,
    "getattr": getattr_,
    "open+close": open_close,
    "open+read+close": open_read_close,
    "create+write+close": create,
    "rename": rename,
    "unlink": unlink,
    "unlink of a lower file": unlink_lower,
    "copy-up": copy_up,
    "readdir 1000 cold": readdir_cold,
    "readdir 1000 warm": readdir_warm,
    "sequential read, MiB": sequential_read,
    "sequential write, MiB": sequential_write,
    "4k random read": random_read,
    "4k random write": random_write,
    "small writes": small_writes,
}


def run(words: list[str], cwd: Path | None = None, **env: str) -> None:
    subprocess.run(words, check=True, cwd=cwd, stdout=subprocess.DEVNULL, env={**os.environ, **env})


def job(call: Callable[[Path], object], *, warm: bool = False) -> Row:
    def row(root: Path) -> tuple[int, float]:
        if warm:
            call(root)
        return timed(1, lambda: call(root))

    return row


IMPORTS = "import json, http.client, email.mime.text, asyncio, sqlite3, xml.dom.minidom, unittest"


def python_start(root: Path) -> None:
    run(["/usr/bin/python3", "-c", IMPORTS])


def find(root: Path) -> None:
    # Not all of /usr may be readable: find says so by its status.
    subprocess.run(
        ["find", "/usr", "-size", "+100000k"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def compile_c(root: Path) -> None:
    run(["make", "-s", "-j2", "-C", str(root / "project")])
    run(["make", "-s", "-C", str(root / "project"), "clean"])


def untar(root: Path) -> None:
    (root / "untar").mkdir()
    run(["tar", "-xf", str(root / "tree.tar"), "-C", str(root / "untar")])


def git_status(root: Path) -> None:
    run(["git", "-c", "safe.directory=*", "-C", str(root / "tree"), "status", "--short"])


def pip_install(root: Path) -> None:
    wheels = [str(path) for path in (root / "wheels").glob("*.whl")]
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--no-compile",
            "--root-user-action=ignore",
            "--target",
            str(root / f"target{time.time_ns()}"),
            *wheels,
        ]
    )


def pytest_run(root: Path) -> None:
    run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(root / "package"),
            "-c",
            "/dev/null",
            str(root / "package"),
        ]
    )


def sqlite_commits(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / f"db{time.time_ns()}")) as connection:
        connection.execute("pragma synchronous = off")
        connection.execute("create table t (a)")
        for number in range(300):
            connection.execute("insert into t values (?)", (number,))
            connection.commit()


JOBS: dict[str, tuple[Row, bool]] = {  # the flag: over /usr itself
    "Python start, cold": (job(python_start), True),
    "Python start, warm": (job(python_start, warm=True), True),
    "find /usr, cold": (job(find), True),
    "find /usr, warm": (job(find, warm=True), True),
    "compile 100 C files": (job(compile_c, warm=True), False),
    "untar 10,000 files": (job(untar), False),
    "git status, 10,000 files, cold": (job(git_status), False),
    "git status, 10,000 files, warm": (job(git_status, warm=True), False),
    "pip install of wheels": (job(pip_install, warm=True), False),
    "pytest run": (job(pytest_run, warm=True), False),
    "300 SQLite transactions": (job(sqlite_commits), False),
}


def make_lower(lower: Path) -> None:
    """The tree that all drivers have below them."""
    (lower / "small").mkdir(parents=True)
    for name in NAMES:
        (lower / "small" / name).write_bytes(b"x" * 3000)
    with (lower / "large").open("wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))


def make_job_trees(lower: Path) -> None:
    project = lower / "project"
    project.mkdir()
    for number in range(100):
        (project / f"f{number}.c").write_text(
            f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
            f'int f{number}(int a) {{ return printf("%d\\n", a + {number}); }}\n'
        )
    (project / "Makefile").write_text(
        "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\n"
        "lib.a: $(OBJECTS)\n\tar rc $@ $^\nclean:\n\trm -f *.o lib.a\n"
    )
    tree = lower / "tree"
    for number in range(10_000):
        path = tree / f"d{number % 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content {number}\n" * 20)
    run(["tar", "-cf", str(lower / "tree.tar"), "-C", str(tree), "."])
    run(["git", "init", "-q"], tree)
    run(["git", "config", "gc.auto", "0"], tree)
    run(["git", "add", "."], tree)
    run(["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"], tree)
    (lower / "wheels").mkdir()
    for path in (*Path("/usr/share/python-wheels").glob("*.whl"), *bundled_wheels()):
        shutil.copy(path, lower / "wheels")
    package = lower / "package"
    package.mkdir()
    for number in range(50):
        (package / f"mod{number}.py").write_text("def f(x):\n    return x + 1\n")
        (package / f"test_{number}.py").write_text(
            f"import json, mod{number}\n"
            + "".join(
                f"def test_{n}():\n    assert mod{number}.f({n}) == {n + 1}\n" for n in range(10)
            )
        )


def bundled_wheels() -> list[Path]:
    import ensurepip

    return list((Path(ensurepip.__file__).parent / "_bundled").glob("*.whl"))


def best(driver: str, row: Row, lower: Path, base: Path, *, over_usr: bool) -> float:
    """One round of a row on one driver: microseconds an operation."""
    with mounted(driver, USR if over_usr else lower, base) as (merged, _):
        if over_usr:
            mount_call(str(merged), USR, "none", 4096, None)
        try:
            count, seconds = row(merged)
        finally:
            if over_usr:
                subprocess.run(["umount", "-l", "/usr"], check=True)
    return seconds / count * 1e6


def measure(
    title: str,
    row: Row,
    drivers: list[str],
    lower: Path,
    base: Path,
    rounds: int,
    *,
    over_usr: bool = False,
    unit: float = 1.0,
) -> dict[str, float]:
    """The best of some rounds for each driver, the drivers taking turns."""
    found = {driver: math.inf for driver in drivers}
    for _ in range(rounds):
        for driver in drivers:
            figure = best(driver, row, lower, base, over_usr=over_usr) / unit
            found[driver] = min(found[driver], figure)
    cells = "".join(f"{found[driver]:>16.1f}" for driver in drivers)
    ratio = f"{found['fuse-overlayfs'] / found['sbx']:>10.2f}" if "fuse-overlayfs" in found else ""
    kernel = f"{found['sbx'] / found['kernel']:>10.2f}" if "kernel" in found else ""
    print(f"{title:<32}{cells}{ratio}{kernel}", flush=True)
    return found


def server_memory(lower: Path, base: Path) -> None:
    """The server's PSS after it has shown all of /usr."""
    with mounted("sbx", USR, base) as (merged, pid):
        subprocess.run(
            ["find", merged, "-size", "+100000k"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        entries = sum(len(dirs) + len(files) for _, dirs, files in os.walk(merged))
    print(f"memory of the server after find over {entries} entries: {pss / 1024:.1f} MiB PSS")


def usable(base: Path) -> list[str]:
    """The drivers that mount here."""
    found = []
    for driver in DRIVERS:
        try:
            with mounted(driver, base / "lower", base):
                found.append(driver)
        except OSError as err:
            print(f"{driver}: {err}")
    return found


def inside(arguments: argparse.Namespace) -> None:
    """Run all rows, in the namespace."""
    clock.processor = arguments.processor
    libc.mount(b"none", b"/", None, 16384 | 1 << 18, None)
    if arguments.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in arguments.cpus.split(",")})
    base = Path(tempfile.mkdtemp(prefix="bench-overlay-"))
    try:
        make_lower(base / "lower")
        drivers = usable(base)
        print(
            f"{'':<32}"
            + "".join(f"{driver:>16}" for driver in drivers)
            + f"{'f-o/sbx':>10}{'sbx/kernel':>11}"
        )
        run_rows(arguments, drivers, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run_rows(arguments: argparse.Namespace, drivers: list[str], base: Path) -> None:
    lower = base / "lower"
    ratios = []
    for title, row in MICRO.items():
        if arguments.only in title:
            found = measure(title, row, drivers, lower, base, arguments.rounds)
            if "fuse-overlayfs" in found:
                ratios.append(found["fuse-overlayfs"] / found["sbx"])
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"{'geometric mean':<32}{'':>48}{mean:>10.2f}")
    if arguments.jobs and any(arguments.only in title for title in JOBS):
        make_job_trees(lower)
        for title, (row, over_usr) in JOBS.items():
            if arguments.only in title:
                measure(
                    title + ", ms",
                    row,
                    drivers,
                    lower,
                    base,
                    arguments.rounds,
                    over_usr=over_usr,
                    unit=1000,
                )
        server_memory(lower, base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", default="", help="CPUs for all processes, e.g. 0")
    parser.add_argument("--processor", action="store_true", help="processor time, not wall time")
    parser.add_argument("--only", default="", help="rows whose title has this")
    parser.add_argument("--no-jobs", dest="jobs", action="store_false")
    arguments = parser.parse_args()
    if arguments.inside:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        inside(arguments)
        return
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        sys.executable,
        "-m",
        "bench.overlay",
        "--inside",
        *sys.argv[1:],
    ]
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()

"""The overlay against a plain directory: random operations must agree in all that can be seen.

Results, errnos, content, types, modes, link counts, xattrs and which names are one file are
compared after every step; open files stay open across copy-up and unlink; remounts come between.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fuse_overlay import server
from fuse_overlay.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2

from .conftest import Overlay

if not os.access("/dev/fuse", os.R_OK | os.W_OK):
    pytest.skip("/dev/fuse is not accessible", allow_module_level=True)

EXAMPLES = int(os.environ.get("OVERLAY_MODEL_EXAMPLES", "25"))
STEPS = int(os.environ.get("OVERLAY_MODEL_STEPS", "40"))

NAMES = ["a", "b", "c", "d", "e", ".wh.x"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
modes = st.sampled_from([0o644, 0o600, 0o755, 0o4755, 0o2755, 0o444, 0o700])
dir_modes = st.sampled_from([0o755, 0o700, 0o1777, 0o2755])
data = st.binary(max_size=64) | st.just(b"x" * 70_000)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def fill_bottom(root: Path) -> None:
    """A tree with everything in it."""
    for name in ("a", "a/b", "a/b/c", "b", "b/a", "d", "d/d"):
        (root / name).mkdir()
    for name in ("a/a", "a/b/a", "a/b/c/a", "b/b", "c", "d/d/a", "d/c"):
        (root / name).write_text(f"content of {name}\n")
    os.link(root / "c", root / "b/c")
    os.link(root / "c", root / "a/c")
    os.link(root / "a/a", root / "b/d")
    os.symlink("a", root / "e")
    os.symlink("nowhere", root / "d/e")
    os.mkfifo(root / "b/e")
    (root / "a/a").chmod(0o640)
    (root / "a/b").chmod(0o2755)
    os.setxattr(root / "a/a", "user.name", b"value")
    os.setxattr(root / "a/b", "user.name", b"value")


def fill_top(bottom: Path, top: Path, plain: Path) -> None:
    """Changes in the upper one of two lowers, and the same in the plain directory."""
    (top / "b").mkdir()
    whiteout(top / "b/b")
    (plain / "b/b").unlink()
    (top / "d").mkdir()
    os.setxattr(top / "d", "user.overlay.opaque", b"y")
    shutil.rmtree(plain / "d")
    (plain / "d").mkdir()
    for root in (top, plain):
        (root / "d/b").write_text("only above\n")


class Pair:
    """A file that is open in both trees."""

    def __init__(self, ours: int, plain: int) -> None:
        self.ours = ours
        self.plain = plain

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.plain)


class Model(RuleBasedStateMachine):
    """One overlay of two lowers beside one plain directory."""

    def __init__(self) -> None:
        super().__init__()
        self.overlay = Overlay(Path(tempfile.mkdtemp(prefix="model-")), lowers=2)
        self.plain = self.overlay.base / "plain"
        self.plain.mkdir()
        top, bottom = self.overlay.lowers
        fill_bottom(bottom)
        fill_bottom(self.plain)
        fill_top(bottom, top, self.plain)
        self.open: list[Pair] = []
        self.root = self.overlay.merged
        self.count = itertools.count()

    def both(self, call: Callable[[Path], Any]) -> Any:
        """Do it in both trees; the same answer or the same errno."""
        answers = []
        for root in (self.root, self.plain):
            try:
                answers.append(call(root))
            except OSError as err:
                answers.append(errno.errorcode[err.errno or 0])
        assert answers[0] == answers[1]
        return answers[0]

    @rule(path=paths, content=data)
    def write(self, path: str, content: bytes) -> None:
        self.both(lambda root: _not_fifo(root / path).write_bytes(content))

    @rule(path=paths, content=data)
    def append(self, path: str, content: bytes) -> None:
        def call(root: Path) -> int:
            with _not_fifo(root / path).open("ab") as file:
                return file.write(content)

        self.both(call)

    @rule(path=paths, size=st.integers(0, 5000))
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda root: os.truncate(root / path, size))

    @rule(path=paths, mode=dir_modes)
    def mkdir(self, path: str, mode: int) -> None:
        def call(root: Path) -> None:
            os.mkdir(root / path)
            os.chmod(root / path, mode)

        self.both(call)

    @rule(path=paths)
    def rmdir(self, path: str) -> None:
        self.both(lambda root: os.rmdir(root / path))

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(lambda root: os.unlink(root / path))

    @rule(source=paths, to=paths)
    def rename(self, source: str, to: str) -> None:
        self.both(lambda root: os.rename(root / source, root / to))

    @rule(source=paths, to=paths, flag=st.sampled_from([RENAME_NOREPLACE, RENAME_EXCHANGE]))
    def rename2(self, source: str, to: str, flag: int) -> None:
        self.both(
            lambda root: renameat2(
                -100, os.fsencode(root / source), -100, os.fsencode(root / to), flag
            )
        )

    @rule(source=paths, to=paths)
    def link(self, source: str, to: str) -> None:
        self.both(lambda root: os.link(root / source, root / to, follow_symlinks=False))

    @rule(path=paths, to=paths)
    def symlink(self, path: str, to: str) -> None:
        self.both(lambda root: os.symlink(to, root / path))

    @rule(path=paths)
    def mkfifo(self, path: str) -> None:
        self.both(lambda root: os.mkfifo(root / path))

    @rule(path=paths, mode=modes)
    def chmod(self, path: str, mode: int) -> None:
        def call(root: Path) -> None:
            is_dir = (root / path).is_dir()
            os.chmod(root / path, mode | 0o700 if is_dir else mode | 0o600)

        self.both(call)

    @rule(path=paths, atime=st.integers(0, 10**18), mtime=st.integers(0, 10**18))
    def utime(self, path: str, atime: int, mtime: int) -> None:
        def call(root: Path) -> tuple[int, int]:
            os.utime(root / path, ns=(atime, mtime), follow_symlinks=False)
            times = os.lstat(root / path)
            return times.st_atime_ns, times.st_mtime_ns

        self.both(call)

    @rule(path=paths, name=st.sampled_from(["user.name", "user.overlay.opaque"]), value=data)
    def setxattr(self, path: str, name: str, value: bytes) -> None:
        value = value[:100]
        self.both(lambda root: os.setxattr(root / path, name, value))

    @rule(path=paths, name=st.sampled_from(["user.name", "user.overlay.opaque", "user.no"]))
    def removexattr(self, path: str, name: str) -> None:
        self.both(lambda root: os.removexattr(root / path, name))

    @rule(
        path=paths,
        flags=st.sampled_from(
            [
                os.O_RDONLY,
                os.O_RDWR,
                os.O_RDWR | os.O_TRUNC,
                os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                os.O_RDWR | os.O_CREAT | os.O_EXCL,
            ]
        ),
    )
    def open_file(self, path: str, flags: int) -> None:
        fds: list[int] = []

        def call(root: Path) -> None:
            fds.append(os.open(_not_fifo(root / path), flags | os.O_CLOEXEC, 0o644))

        self.both(call)
        if len(fds) == 2:
            self.open.append(Pair(*fds))

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9), offset=st.integers(0, 9000), content=data)
    def pwrite(self, number: int, offset: int, content: bytes) -> None:
        self._with(number, lambda fd: os.pwrite(fd, content, offset))

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9), size=st.integers(0, 9000))
    def ftruncate(self, number: int, size: int) -> None:
        self._with(number, lambda fd: os.ftruncate(fd, size))

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9))
    def look(self, number: int) -> None:
        def call(fd: int) -> Any:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                return sorted(os.listdir(fd)) if status.st_nlink else []
            seen = (status.st_nlink, status.st_size, status.st_mode)
            with contextlib.suppress(OSError):
                return (*seen, os.pread(fd, 100_000, 0))
            return seen

        self._with(number, call)

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9))
    def fsync(self, number: int) -> None:
        self._with(number, os.fsync)

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9))
    def close(self, number: int) -> None:
        self.open.pop(number % len(self.open)).close()

    def _with(self, number: int, call: Callable[[int], Any]) -> None:
        pair = self.open[number % len(self.open)]
        answers = []
        for fd in (pair.ours, pair.plain):
            try:
                answers.append(call(fd))
            except OSError as err:
                answers.append(errno.errorcode[err.errno or 0])
        assert answers[0] == answers[1]

    @rule()
    def remount(self) -> None:
        while self.open:
            self.open.pop().close()
        before = {path: seen[-1] for path, seen in snapshot(self.root).items()}
        self.overlay.remount()
        self.root = self.overlay.merged
        after = {path: seen[-1] for path, seen in snapshot(self.root).items()}
        moved = {path for path in before if before[path] != after.get(path)}
        assert not {path for path in moved if _keeps_number(self.root / path)}

    @invariant()
    def same_tree(self) -> None:
        ours, plain = snapshot(self.root), snapshot(self.plain)
        assert {path: seen[:-1] for path, seen in ours.items()} == {
            path: seen[:-1] for path, seen in plain.items()
        }
        assert _groups(ours) == _groups(plain)

    def teardown(self) -> None:
        while self.open:
            self.open.pop().close()
        self.overlay.close()
        lowers_unchanged(self.overlay)
        shutil.rmtree(self.overlay.base)


def lowers_unchanged(overlay: Overlay) -> None:
    """Nothing that was done has reached a lower."""
    assert (overlay.lowers[1] / "a/b/c/a").read_text() == "content of a/b/c/a\n"
    assert (overlay.lowers[1] / "c").stat().st_nlink == 3
    assert sorted(os.listdir(overlay.lowers[1])) == ["a", "b", "c", "d", "e"]


def _not_fifo(path: Path) -> Path:
    """Opening a fifo would wait for its other end."""
    if path.is_fifo():
        raise OSError(errno.ENXIO, "a fifo")
    return path


def _keeps_number(path: Path) -> bool:
    """Only what can have xattrs has a number that lasts."""
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a tree; last of each is the inode number."""
    seen: dict[str, tuple[Any, ...]] = {}
    stack = [""]
    while stack:
        here = stack.pop()
        for entry in os.scandir(root / here):
            path = f"{here}/{entry.name}".lstrip("/")
            status = os.lstat(root / path)
            is_dir = stat.S_ISDIR(status.st_mode)
            if is_dir:
                stack.append(path)
            assert entry.inode() == status.st_ino
            seen[path] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                0 if is_dir else (status.st_nlink, status.st_size),
                _content(root / path, status),
                _xattrs(root / path),
                status.st_ino,
            )
    return seen


def _content(path: Path, status: os.stat_result) -> bytes | str | None:
    if stat.S_ISREG(status.st_mode):
        return path.read_bytes()
    return os.readlink(path) if stat.S_ISLNK(status.st_mode) else None


def _xattrs(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def _groups(seen: dict[str, tuple[Any, ...]]) -> set[frozenset[str]]:
    """Which names are one file."""
    groups: dict[int, set[str]] = {}
    for path, what in seen.items():
        groups.setdefault(what[-1], set()).add(path)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


server.preload()
TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

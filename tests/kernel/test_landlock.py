"""Landlock keeps a container below its root, whatever else gives way."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sandbox.linux import landlock
from sandbox.linux.syscalls import PR_SET_NO_NEW_PRIVS, prctl
from tests.kernel.forked import errno_of, forked

ABI = landlock.abi()
needs_landlock = pytest.mark.skipif(ABI < 2, reason="needs Landlock ABI 2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with something inside and something beside it."""
    for name in ("root/a", "root/b", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/a/file").write_text("inside")
    (tmp_path / "outside/secret").write_text("outside")
    return tmp_path / "root"


def restricted(root: Path, function: Any, **options: bool) -> Any:
    def confined() -> Any:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        assert landlock.restrict(str(root), **options) == ABI
        return function()

    return forked(confined)


def test_without_landlock_nothing_happens() -> None:
    """The answer is the ABI that was used, 0 on a kernel without."""
    assert forked(lambda: (prctl(PR_SET_NO_NEW_PRIVS, 1), landlock.restrict())[1]) in (0, ABI)


@needs_landlock
def test_a_leaked_descriptor_opens_nothing(root: Path) -> None:
    """A directory outside of the root that was left open is of no use (CVE-2024-21626)."""
    leaked = os.open(root.parent / "outside", os.O_RDONLY)

    def escape() -> list[int]:
        return [
            errno_of(lambda: os.open("secret", os.O_RDONLY, dir_fd=leaked)),
            errno_of(lambda: os.listdir(leaked) and os.open(".", os.O_RDONLY, dir_fd=leaked)),
            errno_of(lambda: os.open(f"/proc/self/fd/{leaked}/secret", os.O_RDONLY)),
            errno_of(lambda: os.unlink("secret", dir_fd=leaked)),
            errno_of(lambda: os.mkdir("new", dir_fd=leaked)),
        ]

    try:
        assert restricted(root, escape) == [errno.EACCES] * 5
    finally:
        os.close(leaked)


@needs_landlock
def test_everything_below_the_root_works(root: Path) -> None:
    """Reading, renaming between directories, linking, special files, execution, truncation."""

    def work() -> str:
        os.rename(root / "a/file", root / "b/file")
        os.link(root / "b/file", root / "a/link")
        os.symlink("b/file", root / "symlink")
        os.mkfifo(root / "fifo")
        os.truncate(root / "a/link", 3)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(root / "socket"))
        os.unlink(root / "fifo")
        return (root / "symlink").read_text()

    assert restricted(root, work) == "ins"


@needs_landlock
def test_the_whole_root_is_allowed_by_default() -> None:
    """With "/" as the root every file is below it: /proc, /dev and what is mounted elsewhere."""

    def use() -> list[int]:
        descriptor = os.memfd_create("anonymous")
        paths = ["/proc/self/status", "/dev/null", "/etc/passwd", f"/proc/self/fd/{descriptor}"]
        return [errno_of(lambda p=p: os.close(os.open(p, os.O_RDONLY))) for p in paths]  # type: ignore[misc]

    assert restricted(Path("/"), use) == [0, 0, 0, 0]


@pytest.mark.skipif(ABI < 6, reason="needs Landlock ABI 6")
def test_abstract_sockets_of_others_can_be_closed_off(root: Path) -> None:
    """With the host's network, the desktop's abstract sockets are in reach without this."""
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind("")  # autobind: an abstract name
        theirs.listen()
        address = theirs.getsockname()

        def connect() -> int:
            with socket.socket(socket.AF_UNIX) as ours:
                return errno_of(lambda: ours.connect(address))

        assert restricted(root, connect) == 0
        assert restricted(root, connect, scope_abstract_sockets=True) == errno.EPERM

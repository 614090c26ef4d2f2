"""The host's own root as a lower: what must not be seen, and files that change underneath."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Overlay


def test_hidden_paths_are_empty_or_absent(make_overlay: Callable[..., Overlay]) -> None:
    """A hidden directory is there, and nothing in it; a hidden file is not there."""
    overlay = make_overlay(hidden=("/home/u", "secret", "/var"))
    for name in ("home/u/key", "home/v/file", "secret", "var/lib/x"):
        (overlay.lower / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay.lower / name).write_text(name)

    assert sorted(os.listdir(overlay.merged)) == ["home", "var"]
    assert sorted(os.listdir(overlay.merged / "home")) == ["u", "v"]
    assert os.listdir(overlay.merged / "home" / "u") == []
    assert os.listdir(overlay.merged / "var") == []
    for name in ("home/u/key", "secret", "var/lib"):
        assert not (overlay.merged / name).exists()
    assert (overlay.merged / "home/v/file").read_text() == "home/v/file"


def test_hidden_directories_can_be_used(make_overlay: Callable[..., Overlay]) -> None:
    """Below a hidden path the overlay works as over an empty directory, over remounts too."""
    overlay = make_overlay(hidden=("/home/u", "/var"))
    for name in ("home/u/key", "var/key"):
        (overlay.lower / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay.lower / name).write_text("secret")
    (overlay.merged / "home/u/own").write_text("mine")
    (overlay.merged / "home").rename(overlay.merged / "moved")
    (overlay.merged / "var").rename(overlay.merged / "moved2")

    for _ in range(2):
        assert os.listdir(overlay.merged / "moved/u") == ["own"]
        assert not (overlay.merged / "moved/u/key").exists()
        assert os.listdir(overlay.merged / "moved2") == []
        overlay.remount()
    (overlay.merged / "moved2").rmdir()
    (overlay.merged / "var").mkdir()
    assert os.listdir(overlay.merged / "var") == []


def test_only_what_the_world_may_read(make_overlay: Callable[..., Overlay]) -> None:
    """The user's own rights to host files are not the container's."""
    overlay = make_overlay(world_readable_only=True)
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").write_text("x")
    (overlay.lower / "list").mkdir()
    (overlay.lower / "list" / "a").write_text("x")
    for name in ("private", "public"):
        (overlay.lower / name).write_text(name)
        os.setxattr(overlay.lower / name, "user.key", b"value")
    (overlay.lower / "private").chmod(0o640)
    (overlay.lower / "d").chmod(0o750)
    (overlay.lower / "list").chmod(0o751)

    assert (overlay.merged / "public").read_text() == "public"
    assert (overlay.merged / "list" / "a").read_text() == "x"
    assert os.listxattr(overlay.merged / "public") == ["user.key"]
    assert os.listxattr(overlay.merged / "private") == []
    for call in (
        lambda: (overlay.merged / "private").read_text(),
        lambda: (overlay.merged / "private").chmod(0o644),
        lambda: os.link(overlay.merged / "private", overlay.merged / "other"),
        lambda: (overlay.merged / "private").rename(overlay.merged / "other"),
        lambda: (overlay.merged / "d" / "a").read_text(),
        lambda: os.listdir(overlay.merged / "d"),
        lambda: os.listdir(overlay.merged / "list"),
        lambda: (overlay.merged / "d").chmod(0o755) or os.listdir(overlay.merged / "d"),
    ):
        with pytest.raises(PermissionError):
            call()


def eventually(check: Callable[[], bool]) -> None:
    """Wait for the kernel's caches to expire."""
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_live_lower_may_change(make_overlay: Callable[..., Overlay]) -> None:
    """What the host replaces, rewrites, makes and removes is seen soon, and never mixed."""
    overlay = make_overlay(live_lower=True, live_timeout=0.1)
    lower, merged = overlay.lower, overlay.merged
    for name in "abc":
        (lower / name).write_text("old")
        assert (merged / name).read_text() == "old"
    assert not (merged / "d").exists()

    (lower / "new").write_text("replaced by another file")
    (lower / "new").rename(lower / "a")
    (lower / "b").write_text("rewritten in place")
    (lower / "c").unlink()
    (lower / "d").mkdir()

    eventually(lambda: (merged / "a").read_text() == "replaced by another file")
    eventually(lambda: (merged / "b").read_text() == "rewritten in place")
    eventually(lambda: not (merged / "c").exists())
    eventually(lambda: (merged / "d").is_dir())


def test_hard_links_of_a_live_lower_are_not_remembered(
    make_overlay: Callable[..., Overlay],
) -> None:
    """A copy of the host's file never stands for another that has its inode number by then."""
    overlay = make_overlay(live_lower=True)
    (overlay.lower / "a").write_text("old")
    os.link(overlay.lower / "a", overlay.lower / "b")
    (overlay.merged / "a").write_text("changed")
    (overlay.merged / "b").unlink()
    overlay.mounted().unmount()
    assert os.listdir(overlay.work / "index") == []
    for name in "ab":
        (overlay.lower / name).unlink()
    (overlay.lower / "c").write_text("new")
    os.link(overlay.lower / "c", overlay.lower / "d")
    overlay.mounted().mount()
    assert (overlay.merged / "a").read_text() == "changed"
    assert (overlay.merged / "c").read_text() == "new"
    assert (overlay.merged / "d").stat().st_nlink == 2


def test_the_hosts_root_as_lower() -> None:
    """The root of this machine can be a lower, with its other mounts hidden."""
    base = Path(os.environ.get("TMPDIR", "/tmp"))
    from tempfile import mkdtemp

    overlay = Overlay(
        Path(mkdtemp(dir=base)),
        live_lower=True,
        world_readable_only=True,
        squash_overflow=True,
        hidden=("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/home"),
    )
    overlay.lowers = [Path("/")]
    try:
        merged = overlay.merged
        assert (merged / "etc/os-release").read_text() == Path("/etc/os-release").read_text()
        assert os.listdir(merged / "proc") == os.listdir(merged / "tmp") == []
        (merged / "etc/os-release").unlink()
        (merged / "usr/new").write_text("x")
        assert sorted(os.listdir(overlay.upper)) == ["etc", "usr"]
        with pytest.raises(PermissionError):
            (merged / "etc/shadow").read_text()
    finally:
        overlay.close()

"""What the kernel does without asking: opening files, listing directories that were listed.

A stopped server proves it: whatever works then is the kernel's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuse_overlay.inodes import IDLE_LIMIT

from .conftest import Overlay

# Not open(): it calls fstat(2), and the access time is unknown to the kernel after a read.
READ = "print(os.read(os.open(root + '/{}', os.O_RDONLY), 100).decode())"


@contextmanager
def stopped(overlay: Overlay) -> Iterator[None]:
    """The server does nothing meanwhile."""
    os.kill(overlay.mounted().server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(overlay.mounted().server, signal.SIGCONT)


def without_server(overlay: Overlay, program: str, patience: float = 10) -> str:
    """What a Python program prints that runs with `root`, while the server is stopped."""
    words = [sys.executable, "-S", "-c", f"import os, sys\nroot = sys.argv[1]\n{program}"]
    with stopped(overlay):
        try:
            done = subprocess.run(
                [*words, str(overlay.merged)],
                stdout=subprocess.PIPE,
                text=True,
                timeout=patience,
                check=True,
            )
        except subprocess.TimeoutExpired:
            return "it waits for the server"
    return done.stdout.strip()


def test_known_files_are_opened_and_read_without_the_server(overlay: Overlay) -> None:
    """open, read of what was read before, and close ask nothing."""
    (overlay.lower / "a").write_text("content")
    assert (overlay.merged / "a").read_text() == "content"

    assert without_server(overlay, READ.format("a")) == "content"


def test_directories_are_listed_again_without_the_server(overlay: Overlay) -> None:
    """The kernel keeps listings."""
    for name in "abc":
        (overlay.lower / name).touch()
    for _ in range(2):  # opendir(3) calls fstat(2), too
        assert len(os.listdir(overlay.merged)) == 3

    assert without_server(overlay, "print(*sorted(os.listdir(root)))") == "a b c"


def test_a_kept_listing_shows_every_change(overlay: Overlay) -> None:
    """Whatever makes or removes a name, the next listing is right."""
    for name in "abcd":
        (overlay.lower / name).touch()
    (overlay.lower / "dir").mkdir()
    root = overlay.merged

    def listed() -> str:
        return " ".join(sorted(os.listdir(root)))

    assert listed() == "a b c d dir"
    (root / "a").unlink()
    assert listed() == "b c d dir"
    (root / "b").rename(root / "e")
    assert listed() == "c d dir e"
    (root / "c").rename(root / "dir" / "c")
    assert listed() == "d dir e"
    assert os.listdir(root / "dir") == ["c"]
    os.link(root / "d", root / "f")
    (root / "g").symlink_to("x")
    (root / "h").mkdir()
    os.mkfifo(root / "i")
    (root / "j").touch()
    assert listed() == "d dir e f g h i j"
    (root / "h").rmdir()
    (root / "d").chmod(0o600)
    assert listed() == "d dir e f g i j"
    overlay.remount()
    assert sorted(os.listdir(overlay.merged)) == ["d", "dir", "e", "f", "g", "i", "j"]


def test_links_are_followed_without_the_server(overlay: Overlay) -> None:
    """The kernel keeps the targets of symbolic links."""
    (overlay.lower / "a").write_text("content")
    (overlay.lower / "link").symlink_to("a")
    assert (overlay.merged / "link").read_text() == "content"

    assert without_server(overlay, READ.format("link")) == "content"


def test_a_live_lower_is_always_asked(make_overlay: Callable[..., Overlay]) -> None:
    """With a lower that may change, opening and listing ask the server."""
    overlay = make_overlay(live_lower=True)
    (overlay.lower / "a").write_text("content")
    assert os.listdir(overlay.merged) == ["a"]
    assert (overlay.merged / "a").read_text() == "content"

    for program in (READ.format("a"), "os.listdir(root)"):
        assert without_server(overlay, program, 1) == "it waits for the server"


def test_more_files_can_be_in_use_than_the_server_has_open(overlay: Overlay) -> None:
    """The server opens files anew when they are read, whatever they are called by then."""
    count = IDLE_LIMIT + 100
    for number in range(count):
        (overlay.lower / f"l{number}").write_text(f"lower {number}")
    root = overlay.merged
    for number in range(count):
        (root / f"u{number}").write_text(f"upper {number}")
    files = {}
    for number in range(count):
        for name in (f"l{number}", f"u{number}"):
            files[name] = (root / name).open("r+")
    for number in range(count):
        (root / f"u{number}").rename(root / f"moved{number}")
        if number % 2:
            (root / f"moved{number}").unlink()
            (root / f"l{number}").unlink()
    for number in range(count):
        for kind in ("lower", "upper"):
            file = files[f"{kind[0]}{number}"]
            assert file.read() == f"{kind} {number}"
            file.write("!")
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            assert file.read() == f"{kind} {number}!"
            file.close()
    assert len(os.listdir(root)) == (count - count // 2) * 2


def test_opening_copies_nothing_up(overlay: Overlay) -> None:
    """A lower file that is opened for writing is copied at the first write, not before."""
    (overlay.lower / "a").write_bytes(b"lower")
    with (overlay.merged / "a").open("r+b", buffering=0) as file:
        assert os.listdir(overlay.upper) == []
        file.write(b"X")
    assert (overlay.upper / "a").read_bytes() == b"Xower"


def test_a_file_that_the_server_may_not_read_is_an_error(overlay: Overlay) -> None:
    """What no right of the server's reaches says EACCES, at open or at read."""
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    (overlay.lower / "a").write_text("x")
    (overlay.lower / "a").chmod(0)
    with pytest.raises(PermissionError):
        Path(overlay.merged / "a").read_text()

"""kill -9 of the server at any moment: nothing in the upper is half there, a remount finds all."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_overlay import check

from .conftest import Overlay

SIZE = 3 << 20

LOADS = {
    "copy-up": "[os.chmod(f'{root}/big{n}', 0o600) for n in range(40)]",
    "rename": """
for n in range(2000):
    os.rename(f'{root}/d/{n % 40}', f'{root}/e/{n % 40}')
    os.rename(f'{root}/e/{n % 40}', f'{root}/d/{n % 40}')
""",
    "unlink": "[os.unlink(f'{root}/d/{n}') for n in range(40)]",
    "directories": """
for n in range(1000):
    os.rename(f'{root}/d', f'{root}/moved')
    os.rename(f'{root}/moved', f'{root}/d')
""",
    "rewrite": """
for n in range(4000):
    with open(f'{root}/new', 'w') as file:
        file.write('whole' * 100)
    os.rename(f'{root}/new', f'{root}/d/{n % 40}')
""",
}


def fill(lower: Path) -> None:
    for name in ("d", "e"):
        (lower / name).mkdir()
    for number in range(40):
        (lower / f"big{number}").write_bytes(bytes([number]) * SIZE)
        (lower / "d" / str(number)).write_text(f"content {number}")


def load(overlay: Overlay, what: str) -> subprocess.Popen[bytes]:
    """A process that changes the overlay until it can no more."""
    program = f"import os, sys\nroot = sys.argv[1]\nprint('begun', flush=True)\n{LOADS[what]}"
    words = [sys.executable, "-c", program, str(overlay.merged)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def check_whole(overlay: Overlay, what: str) -> None:
    """Every file is there under one of its names, with one of its contents, whole."""
    root = overlay.merged
    for number in range(40):
        big = root / f"big{number}"
        assert big.stat().st_size == SIZE
        if what == "copy-up":
            assert big.read_bytes() == bytes([number]) * SIZE
        places = [root / name / str(number) for name in ("d", "e", "moved")]
        found = [path for path in places if path.exists()]
        if what == "unlink":
            assert len(found) <= 1
        else:
            assert len(found) == 1
        for path in found:
            assert path.read_text() in (f"content {number}", "whole" * 100)


@pytest.mark.parametrize("what", LOADS)
def test_a_killed_server_leaves_nothing_half_done(
    make_overlay: Callable[..., Overlay], what: str
) -> None:
    """Whatever went on, after a remount all is as before or as after each request."""
    overlay = make_overlay()
    fill(overlay.lower)
    chance = random.Random(what)
    for _ in range(6):
        process = load(overlay, what)
        assert process.stdout is not None
        process.stdout.readline()
        # How far the load gets is chance; that it does not matter is the test.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.15))
        overlay.mounted().kill()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        left = [line for line in check.check_upper(str(overlay.upper))]
        assert left == []
        overlay.mounted().mount()
        assert os.listdir(overlay.work / "work") == []
        check_whole(overlay, what)


def test_a_remount_after_a_kill_keeps_what_was_synced(overlay: Overlay) -> None:
    """What was written and closed before the kill is there after it."""
    for number in range(50):
        (overlay.merged / str(number)).write_text("x" * number)
    overlay.mounted().kill()
    overlay.mounted().mount()
    for number in range(50):
        assert (overlay.merged / str(number)).read_text() == "x" * number

"""kill -9 of any process of a build at any moment: the store is whole, the next build succeeds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.build.conftest import Builder

# A run of the whole suite does with few; SBX_BUILD_CRASHES=50 does more.
CRASHES = int(os.environ.get("SBX_BUILD_CRASHES", "8"))
_NAMES = {"sbx", "sbx-build", "sbx-forker", "sbx-supervisor", "sbx-overlay", "sbx-init", "sh"}
_LONGEST = 0.9  # seconds: about what the build takes

_DOCKERFILE = """\
FROM busybox AS one
RUN --mount=type=cache,target=/c echo $ROUND > /c/x; dd if=/dev/zero of=/big bs=1M count=8; mkdir /d
COPY . /context/
FROM busybox AS two
ARG ROUND
RUN i=0; while [ $i -lt 200 ]; do echo $i > /f$i; i=$((i+1)); done; rm -r /home
WORKDIR /w
FROM busybox
ARG ROUND
COPY --from=one /context /context
COPY --from=two / /two/
RUN echo "$ROUND" > /round; ls /two | wc -l > /count
"""


def test_a_build_killed_at_any_moment_leaves_a_whole_store(build: Builder) -> None:
    """Whatever part dies: the store checks clean, and the next build gives what it should."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    build.write({f"files/{n}": str(n) * 100 for n in range(50)} | {"Dockerfile": _DOCKERFILE})
    sbx = build.sbx

    for number in range(CRASHES):
        flags = ("--no-cache",) if chance.random() < 0.5 else ()
        argument = ("--build-arg", f"ROUND={number}")
        client = sbx.popen(
            *("build", "-q", "-t", "built", *flags, *argument, build.context),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(chance.uniform(0, _LONGEST))
        _kill_one(build, chance)
        client.wait(60)
        _wait_for_no_build(build)

        # The next command that adds something sweeps up; then all is whole.
        sbx("build", "-q", "-", input="FROM busybox\n", check=True)
        check = sbx("system", "check")
        assert check.returncode == 0, f"seed {seed}, round {number}: {check.stdout}{check.stderr}"
        assert sbx.containers() == [], f"seed {seed}, round {number}"

    sbx("build", "-q", "-t", "built", "--build-arg", "ROUND=last", build.context, check=True)
    assert build.run("cat", "/round") == "last\n", f"seed {seed}"
    assert build.run("cat", "/context/files/49") == "49" * 100
    assert int(build.run("cat", "/count")) > 200
    assert os.listdir(sbx.directory / "data/sbx/storage/staging") == []


def _parts(build: Builder) -> list[int]:
    """The processes of a build in progress, but for those of the client's own start."""
    found = []
    for process in build.sbx.mark.processes():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process.pid}/comm").read_text().strip()
            if name in _NAMES:
                found.append(process.pid)
    return found


def _builds(build: Builder) -> list[int]:
    """The forkers and steps that are there."""
    return [
        pid
        for pid in _parts(build)
        if Path(f"/proc/{pid}/comm").read_text().strip()
        in ("sbx-build", "sbx-forker", "sbx-supervisor")
    ]


def _kill_one(build: Builder, chance: random.Random) -> None:
    victims = _parts(build)
    if victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(victims), signal.SIGKILL)


def _wait_for_no_build(build: Builder) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if not _builds(build):
                return
        build.sbx.mark.wait_gone(0.05)

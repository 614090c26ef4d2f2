"""What goes through a container's streams arrives, all of it, with bounded memory."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.sbx_command import Sbx

# A gigabyte by hand (SBX_STREAM_MB=1024), less in a run of the whole suite.
MEGABYTES = int(os.environ.get("SBX_STREAM_MB", "64"))


def _peak_memory(sbx: Sbx) -> int:
    """The largest resident set, in kB, of the test's supervisors so far (VmHWM, proc(5))."""
    peaks = [0]
    for process in sbx.mark.processes():
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        if status.startswith("Name:\tsbx-supervisor"):
            peaks += [int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line]
    return max(peaks)


def test_a_large_stream_goes_through_unharmed(sbx: Sbx) -> None:
    """Standard input to standard output, byte by byte the same, without piling up in memory."""
    block = os.urandom(1 << 20)
    process = sbx.popen(
        "run",
        "--rm",
        "-i",
        "--network=none",
        "host",
        "cat",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    writer = os.fork()
    if writer == 0:
        process.stdout.close()
        for _ in range(MEGABYTES):
            process.stdin.write(block)
        process.stdin.close()
        os._exit(0)
    process.stdin.close()
    expected, found, size, peak = hashlib.sha256(), hashlib.sha256(), 0, 0
    while data := process.stdout.read(1 << 20):
        found.update(data)
        size += len(data)
        peak = max(peak, _peak_memory(sbx)) if size % (16 << 20) < (1 << 20) else peak
    process.stdout.close()
    for _ in range(MEGABYTES):
        expected.update(block)

    os.waitpid(writer, 0)
    assert process.wait(30) == 0
    assert size == MEGABYTES << 20
    assert found.digest() == expected.digest()
    assert peak < 150_000, "the supervisor's memory grew with the stream"


def test_a_reader_that_leaves_ends_the_writer(sbx: Sbx) -> None:
    """`sbx run … yes | head` ends: the program gets SIGPIPE as it would without a container."""
    # --init: the kernel keeps a pid 1 without a handler from the signal.
    process = sbx.popen(
        "run", "--rm", "--init", "--network=none", "host", "yes", stdout=subprocess.PIPE
    )
    assert process.stdout is not None

    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()

    assert process.wait(20) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(sbx: Sbx, number: signal.Signals) -> None:
    """A signal to the client reaches the program; its exit code is the client's."""
    script = f"trap 'echo got; exit 9' {int(number)}; echo ready; while :; do sleep 0.05; done"
    process = sbx.popen(
        "run", "--rm", "--network=none", "host", "sh", "-c", script, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.send_signal(number)

    with process.stdout:
        assert process.stdout.read() == b"got\n"
    assert process.wait(20) == 9


def test_logs_are_capped(sbx: Sbx) -> None:
    """However much a program says, its log stays below its limit."""
    script = "head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 99"
    sbx("run", "--name=nn", "--network=none", "host", "sh", "-c", script, check=True)

    files = list((sbx.directory / "data/sbx/containers").glob("*/log.jsonl*"))

    assert len(files) == 2
    assert sum(f.stat().st_size for f in files) < 21 << 20

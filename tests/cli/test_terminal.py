"""`sbx run -t`: a terminal of the container's own, and the user's as it was."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sbx_command import Sbx


class Terminal:
    """A user at a terminal: types, and reads what appears."""

    def __init__(self, sbx: Sbx, *arguments: str) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = ""
        self.process: subprocess.Popen[bytes] = sbx.popen(
            *arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, seconds: float = 20) -> str:
        """Read until *pattern* appears; return all that came since the last time."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not appear in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        said, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return said

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminals(sbx: Sbx) -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


SHELL = ("run", "--rm", "-it", "--network=none", "--name=tt", "host", "sh")


def test_the_container_has_a_terminal_of_its_own(sbx: Sbx, terminals: list[Terminal]) -> None:
    """-t gives a pty of the container's devpts with the user's window size, kept up to date."""
    terminal = Terminal(sbx, *SHELL)
    terminals.append(terminal)
    terminal.expect("[#$] ")

    terminal.type("tty; stty size\n")

    terminal.expect("/dev/pts/0\r\n33 77\r\n")
    fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 90, 0, 0))
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.type("sleep 0.2; stty size\n")
    terminal.expect("40 90\r\n")
    terminal.type("exit 5\n")
    assert terminal.process.wait(20) == 5
    assert terminal.is_as_before()


def test_ctrl_c_reaches_the_program_and_not_sbx(sbx: Sbx, terminals: list[Terminal]) -> None:
    """Keys that make signals are the container's terminal's."""
    terminal = Terminal(sbx, *SHELL)
    terminals.append(terminal)
    terminal.expect("[#$] ")

    # No shell between: dash loses an interrupt that comes just before it starts a program.
    terminal.type("cat\n")
    terminal.type("ready\n")
    terminal.expect("ready\r\nready\r\n")
    terminal.type("\x03")
    terminal.expect("[#$] ")
    terminal.type("echo code $?\n")

    terminal.expect("code 130\r\n")


def test_detach_keys_leave_the_container_running(sbx: Sbx, terminals: list[Terminal]) -> None:
    """Ctrl-P Ctrl-Q ends the client with 0 and puts the terminal back; the container goes on."""
    terminal = Terminal(sbx, *SHELL)
    terminals.append(terminal)
    terminal.expect("[#$] ")

    terminal.type("\x10\x11")

    assert terminal.process.wait(20) == 0
    assert terminal.is_as_before()
    assert len(sbx.containers()) == 1


def test_the_terminal_is_restored_after_kill_9(sbx: Sbx, terminals: list[Terminal]) -> None:
    """Whatever becomes of the supervisor, the client puts the terminal back and says so."""
    terminal = Terminal(sbx, *SHELL)
    terminals.append(terminal)
    terminal.expect("[#$] ")
    assert not terminal.is_as_before()
    (supervisor,) = [
        p.pid
        for p in sbx.mark.processes()
        if Path(f"/proc/{p.pid}/comm").read_text().strip() == "sbx-supervisor"
    ]

    os.kill(supervisor, signal.SIGKILL)

    assert terminal.process.wait(20) == 125
    assert terminal.is_as_before()
    terminal.expect("was ended")


def test_exec_has_a_terminal_too(sbx: Sbx, terminals: list[Terminal]) -> None:
    """`sbx exec -it` opens a second terminal in the container."""
    sbx("run", "-d", "--name=tt", "--network=none", "host", "sleep", "1000", check=True)
    terminal = Terminal(sbx, "exec", "-it", "tt", "sh")
    terminals.append(terminal)
    terminal.expect("[#$] ")

    terminal.type("tty; exit 4\n")

    terminal.expect("/dev/pts/0\r\n")
    assert terminal.process.wait(20) == 4


def test_attach_takes_over_the_terminal(sbx: Sbx, terminals: list[Terminal]) -> None:
    """`attach` to a detached terminal: its size is the new one, keys go in, detach keys leave."""
    sbx("run", "-dit", "--name=tt", "--network=none", "host", "sh", check=True)
    terminal = Terminal(sbx, "attach", "tt")
    terminals.append(terminal)

    terminal.type("stty size\n")
    terminal.expect("33 77\r\n")
    terminal.type("\x10\x11")
    assert terminal.process.wait(20) == 0
    assert terminal.is_as_before()

    again = Terminal(sbx, "attach", "tt")
    terminals.append(again)
    again.type("exit 5\n")
    assert again.process.wait(20) == 5

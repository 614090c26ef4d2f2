"""Reading a container's log while it may be growing, rotated and about to end.

The writer is `supervisor.log_file`: `log.jsonl` is the newest file, `log.jsonl.1` the one before.
"""

from __future__ import annotations

import json
import os
import select
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from sandbox.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_FROM, Inotify
from sandbox.state import Container

_CHUNK = 1 << 16


class Entry(Struct, frozen=True):
    """A line of output, or a piece of a long one."""

    text: str  # with its newline, unless more of the line follows
    stream: str  # stdout or stderr
    time: str  # RFC 3339 with nanoseconds, UTC


class Selection(Struct, frozen=True):
    """Which entries are wanted; moments are as in the log, where text sorts by time."""

    tail: int | None = None  # this many lines from the end; None: all
    since: str | None = None
    until: str | None = None

    def selects(self, entry: Entry) -> bool:
        after = self.since is None or entry.time >= self.since
        return after and (self.until is None or entry.time <= self.until)


def read(container: Container, selection: Selection) -> Iterator[Entry]:
    """Yield what is in the log now."""
    yield from _tail(_entries(_lines(container)), selection)


def follow(container: Container, selection: Selection) -> Iterator[Entry]:
    """Yield what is in the log and what is added, until the container has ended."""
    with ExitStack() as stack:
        # Opened before the older files are listed: a rotation in between loses nothing.
        reader = _Reader(container.log)
        stack.callback(reader.close)
        inotify = stack.enter_context(Inotify())
        # Watching begins before the first look, so that nothing is missed in between.
        inotify.watch(container.directory, IN_MODIFY | IN_CREATE | IN_MOVED_FROM)
        supervisor = container.status.supervisor
        pidfd = supervisor.open() if supervisor and container.running else None
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        older = [path for path in _rotated(container) if not reader.reads(path)]
        rotated = _lines_of(older)
        yield from _tail(_entries([*rotated, *reader.lines()]), selection)
        while pidfd is not None:
            ended = _wait(inotify, pidfd)
            yield from filter(selection.selects, _entries(reader.lines()))
            if ended:
                return


def _wait(inotify: Inotify, pidfd: int) -> bool:
    """Wait for something to happen; return whether the supervisor has ended."""
    poll = select.poll()
    poll.register(inotify, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ready = {fd for fd, _ in poll.poll()}
    inotify.read()
    return pidfd in ready


class _Reader:
    """Reads the lines of a file that grows, and goes on to its successor when it is rotated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None
        self.rest = b""
        self._open()

    def reads(self, path: Path) -> bool:
        """Return whether *path* is the file being read, under whatever name."""
        try:
            return self.file is not None and os.path.samestat(
                os.stat(path), os.fstat(self.file.fileno())
            )
        except FileNotFoundError:
            return False

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that were added since the last call."""
        while True:
            if self.file is None and not self._open():
                return
            yield from self._read()
            if not self._replaced():
                return
            # What came between the last read and the rename is still in the old file.
            yield from self._read()
            self.close()

    def _open(self) -> bool:
        try:
            self.file = open(self.path, "rb", buffering=0)  # noqa: SIM115  # closed by close()
        except FileNotFoundError:
            return False
        self.rest = b""
        return True

    def _read(self) -> Iterator[bytes]:
        assert self.file is not None
        while chunk := self.file.read(_CHUNK):
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            yield from lines

    def _replaced(self) -> bool:
        return self.path.exists() and not self.reads(self.path)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def _rotated(container: Container) -> list[Path]:
    """Return the older files, the oldest first."""
    found = container.directory.glob(f"{container.log.name}.*")
    numbered = [path for path in found if path.suffix[1:].isdigit()]
    return sorted(numbered, key=lambda path: -int(path.suffix[1:]))


def _lines(container: Container) -> Iterator[bytes]:
    yield from _lines_of([*_rotated(container), container.log])


def _lines_of(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with open(path, "rb") as file:
                yield from file
        except FileNotFoundError:
            continue


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            value = json.loads(line)
            yield Entry(str(value["log"]), str(value["stream"]), str(value["time"]))
        except (ValueError, KeyError, TypeError):
            continue  # half a line at the end of a file: a crash, or it is being written


def _tail(entries: Iterable[Entry], selection: Selection) -> Iterator[Entry]:
    selected = filter(selection.selects, entries)
    if selection.tail is None:
        return selected
    return iter(_last_lines(selected, selection.tail))


def _last_lines(entries: Iterable[Entry], count: int) -> deque[Entry]:
    """Return the entries of the last *count* lines: one line may be several entries."""
    kept: deque[Entry] = deque()
    lines = 0
    for entry in entries:
        kept.append(entry)
        lines += entry.text.endswith("\n")
        open_line = not entry.text.endswith("\n")
        while kept and lines + open_line > count:
            lines -= kept.popleft().text.endswith("\n")
    return kept

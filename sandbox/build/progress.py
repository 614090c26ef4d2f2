"""What is told of a build while it runs, as BuildKit's `--progress=plain` does it.

    #5 [build 2/3] RUN make
    #5 0.412 cc -c main.c
    #5 DONE 1.2s

A step that fails keeps its last output for the error's message.
"""

from __future__ import annotations

import codecs
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TextIO

_KEPT_LINES = 30
_MOST_LINE = 8 << 10
# C0 but for tab, DEL and C1: a program's output must not act on the terminal.
_CONTROL = dict.fromkeys({*range(9), *range(10, 32), *range(127, 160)}, "\N{REPLACEMENT CHARACTER}")


class Vertex:
    """One thing that is done: a step, or a part of the build's own work."""

    def __init__(self, progress: Progress, number: int, title: str) -> None:
        self.progress = progress
        self.number = number
        self.title = title
        self.last: deque[str] = deque(maxlen=_KEPT_LINES)
        self.began: float | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def start(self) -> None:
        if self.began is None:
            self.began = time.monotonic()
            self.progress.started(self)

    def output(self, data: bytes) -> None:
        """Show what the step printed; whole lines."""
        self.start()
        *lines, self._line = (self._line + self._decoder.decode(data)).split("\n")
        if len(self._line) > _MOST_LINE:
            lines.append(self._line)
            self._line = ""
        for line in lines:
            self._show(line)

    def _show(self, line: str) -> None:
        # What a program overwrote (a progress bar) is not shown.
        text = line.rstrip("\r").rpartition("\r")[2].translate(_CONTROL)
        self.last.append(text)
        self.progress.line(self, f"{self.elapsed:.3f} {text}")

    def say(self, text: str) -> None:
        """Show a line of the build's own."""
        self.start()
        self.progress.line(self, text)

    @property
    def elapsed(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began

    def _flush(self) -> None:
        if self._line:
            self._show(self._line)
            self._line = ""

    def done(self) -> None:
        self.start()
        self._flush()
        self.progress.ended(self, f"DONE {self.elapsed:.1f}s")

    def cached(self) -> None:
        self.start()
        self.progress.ended(self, "CACHED")

    def fail(self, message: str) -> None:
        self.start()
        self._flush()
        self.progress.ended(self, f"ERROR: {message.translate(_CONTROL)}")

    def cancel(self) -> None:
        if self.began is not None:
            self._flush()
            self.progress.ended(self, "CANCELED")


class Progress:
    """Says nothing: `--quiet`. The other kinds are told the same."""

    def __init__(self) -> None:
        self._count = 0
        self.failed: Vertex | None = None

    def vertex(self, title: str) -> Vertex:
        """Return the next vertex; its number is its place in the order of their beginning."""
        self._count += 1
        return Vertex(self, self._count, title)

    def started(self, vertex: Vertex) -> None:
        """*vertex* begins."""

    def line(self, vertex: Vertex, text: str) -> None:
        """A line of *vertex*."""

    def ended(self, vertex: Vertex, how: str) -> None:
        """*vertex* is over."""

    def warn(self, text: str) -> None:
        """Something that does not stop the build."""
        self._print(f"sbx: warning: {text}")

    def close(self) -> None:
        """All is told."""

    def _print(self, text: str) -> None:
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class PlainProgress(Progress):
    """Lines, each with its vertex's number."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._last: Vertex | None = None

    def started(self, vertex: Vertex) -> None:
        self._switch(vertex)

    def line(self, vertex: Vertex, text: str) -> None:
        self._switch(vertex)
        self._write(f"#{vertex.number} {text}")

    def ended(self, vertex: Vertex, how: str) -> None:
        self._switch(vertex)
        self._write(f"#{vertex.number} {how}")
        self._last = None

    def _switch(self, vertex: Vertex) -> None:
        if self._last is not vertex:
            title = vertex.title.translate(_CONTROL)
            self._write(f"\n#{vertex.number} {title}")
            self._last = vertex

    def _write(self, text: str) -> None:
        with suppress(OSError):
            print(text, file=self._stream, flush=True)

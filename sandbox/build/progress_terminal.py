"""A build's progress on a terminal: one line for each step, the last output below those at work."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sandbox.build.progress import Progress, Vertex

_SHOWN_OUTPUT = 6  # lines of a step at work
_PER_SECOND = 8


class TerminalProgress(Progress):
    """Drawn anew a few times a second by rich."""

    def __init__(self, title: str) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._vertices: list[tuple[Vertex, str]] = []
        self._console = Console(stderr=True)
        self._live: Any = Live(
            console=self._console,
            refresh_per_second=_PER_SECOND,
            get_renderable=self._picture,
            transient=False,
        )
        self._live.start()

    def started(self, vertex: Vertex) -> None:
        self._vertices.append((vertex, ""))

    def ended(self, vertex: Vertex, how: str) -> None:
        self._vertices = [(v, how if v is vertex else state) for v, state in self._vertices]

    def warn(self, text: str) -> None:
        self._live.console.print(f"sbx: warning: {text}", markup=False, highlight=False)

    def close(self) -> None:
        with suppress(OSError):
            self._live.stop()

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        over = sum(1 for _, state in self._vertices if state)
        rows = [Text(f"[+] Building {self._title} ({over}/{len(self._vertices)})", "bold")]
        # What was done long ago leaves the screen to what is at work.
        room = max(self._console.size.height - 2, 5)
        for vertex, state in self._vertices:
            rows += [Text(line, style, no_wrap=True) for line, style in _lines(vertex, state)]
        return Group(*rows[:1], *rows[1:][-room:])


def _lines(vertex: Vertex, state: str) -> list[tuple[str, str]]:
    if state.startswith("ERROR"):
        return [(f" => {state[:5]} {vertex.title}", "red")]
    if state:
        word = "CACHED " if state == "CACHED" else ""
        return [(f" => {word}{vertex.title}  {state.removeprefix('DONE ')}", "blue")]
    shown = list(vertex.last)[-_SHOWN_OUTPUT:]
    return [
        (f" => {vertex.title}  {vertex.elapsed:.1f}s", ""),
        *((f" => => {line}", "dim") for line in shown),
    ]

"""What is told of a transfer while it runs: bars on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

from sandbox.image.descriptor import Descriptor


class Progress:
    """Prints docker's lines: `a1b2c3d4e5f6: Pull complete`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, flush=True)

    def begin(self, blob: Descriptor, doing: str) -> None:
        """A blob's transfer starts."""

    def advance(self, blob: Descriptor, count: int) -> None:
        """*count* more bytes have come or gone."""

    def restart(self, blob: Descriptor, done: int) -> None:
        """The transfer goes on from *done* bytes."""

    def step(self, blob: Descriptor, text: str) -> None:
        """Something ended, or the next thing begins."""
        self.say(f"{short(blob)}: {text}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Bars(Progress):
    """A bar for each blob, by rich."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        self._rich: Any = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        self._tasks: dict[str, Any] = {}

    def say(self, line: str) -> None:
        self._rich.console.print(line, markup=False, highlight=False)

    def begin(self, blob: Descriptor, doing: str) -> None:
        self._tasks[blob.digest] = self._rich.add_task(f"{short(blob)}: {doing}", total=blob.size)

    def advance(self, blob: Descriptor, count: int) -> None:
        self._rich.advance(self._tasks[blob.digest], count)

    def restart(self, blob: Descriptor, done: int) -> None:
        self._rich.update(self._tasks[blob.digest], completed=done)

    def step(self, blob: Descriptor, text: str) -> None:
        if blob.digest not in self._tasks:
            self.begin(blob, text)
        self._rich.update(
            self._tasks[blob.digest], description=f"{short(blob)}: {text}", completed=blob.size
        )

    def __enter__(self) -> Progress:
        self._rich.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rich.__exit__(kind, value, trace)


def open_progress(*, quiet: bool) -> Progress:
    """Return bars when standard output is a terminal, lines else."""
    if quiet or not os.isatty(sys.stdout.fileno()):
        return Progress(quiet=quiet)
    return Bars()


def short(blob: Descriptor) -> str:
    return blob.digest.removeprefix("sha256:")[:12]

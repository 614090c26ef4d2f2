"""Timing by turns: A B C, B C A, …, so that what else the machine does hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to be timed. The first of several is what the others are compared with."""

    name: str
    once: Callable[[], float | None]  # returns the value, or None: then its seconds are taken


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True, slots=True)
class Table:
    """The outcome of one part. *reference*: the row that `ratio` divides by."""

    title: str
    unit: str  # "ms", "1/s", "MB"
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def ratio(self, row: Row) -> float:
        return row.median / self.rows[0].median if self.rows[0].median else float("nan")

    def to_json(self) -> dict[str, object]:
        return {
            "title": self.title,
            "unit": self.unit,
            "notes": list(self.notes),
            "rows": [
                {
                    "name": row.name,
                    "median": row.median,
                    "min": min(row.samples),
                    "max": max(row.samples),
                    "ratio": self.ratio(row),
                    "samples": list(row.samples),
                }
                for row in self.rows
            ],
        }

    def to_text(self) -> str:
        width = max([len(row.name) for row in self.rows] + [20])
        lines = [self.title, f"  {'':{width}}  median     min     max   ratio  ({self.unit})"]
        for row in self.rows:
            numbers = (row.median, min(row.samples), max(row.samples))
            cells = "".join(f"{number:8.1f}" for number in numbers)
            lines.append(f"  {row.name:{width}}{cells}{self.ratio(row):8.2f}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def by_turns(
    contenders: Sequence[Contender], rounds: int, *, warm_up: int = 1, pause: float = 0.0
) -> list[Row]:
    """Run every contender *rounds* times, in turn, each round beginning with another one.

    *pause*: seconds before each, so that nobody pays for what the one before left to do (podman's
    clean-up, our next spare container). Seconds are returned as milliseconds.
    """
    for contender in contenders:
        for _ in range(warm_up):
            contender.once()
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        first = turn % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            time.sleep(pause)
            samples[contender.name].append(_one(contender))
    return [Row(contender.name, tuple(samples[contender.name])) for contender in contenders]


def _one(contender: Contender) -> float:
    begin = time.perf_counter()
    value = contender.once()
    return (time.perf_counter() - begin) * 1000 if value is None else value

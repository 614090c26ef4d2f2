"""`sbx logs`: what a container printed."""

from __future__ import annotations

import os
import time

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine import logs
from sandbox.engine.context import Context
from sandbox.engine.times import log_time, parse_moment
from sandbox.errors import InvalidSpec


def run(arguments: Arguments, context: Context) -> int:
    container = open_containers(context).find(arguments.positionals[0])
    now = time.time()
    selection = logs.Selection(
        _tail(arguments.text("tail")),
        _moment(arguments.text("since"), now),
        _moment(arguments.text("until"), now),
    )
    prefix = _labels(container.spec.labels) if arguments.flag("details") else ""
    entries = logs.follow if arguments.flag("follow") else logs.read
    for entry in entries(container, selection):
        stamp = f"{entry.time} " if arguments.flag("timestamps") else ""
        _write(2 if entry.stream == "stderr" else 1, f"{stamp}{prefix}{entry.text}".encode())
    return 0


def _tail(text: str | None) -> int | None:
    if text is None or text == "all" or text.startswith("-"):
        return None
    if not text.isdecimal():
        raise InvalidSpec(f"invalid number of lines: {text!r}", hint="a number, or all")
    return int(text)


def _moment(text: str | None, now: float) -> str | None:
    return None if text is None else log_time(parse_moment(text, now))


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels) + " " if labels else ""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


COMMAND = Command(
    name="logs",
    arguments="CONTAINER",
    summary="Fetch the logs of a container",
    run=run,
    options=(
        Option("follow", "Follow log output", short="f"),
        Option("tail", "Number of lines to show from the end of the logs", "n", "value"),
        Option(
            "since",
            "Show logs since a time (2026-01-31T13:23:37Z) or how long ago (42m)",
            "",
            "value",
        ),
        Option("until", "Show logs before a time, or how long ago", kind="value"),
        Option("timestamps", "Show timestamps", short="t"),
        Option("details", "Show the container's labels"),
    ),
    at_least=1,
    at_most=1,
    completion="container",
    examples=(Example("sbx logs -f --tail 10 web", "The last lines, and what comes"),),
)

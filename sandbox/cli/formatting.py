"""`--format`: rows as an aligned table, as JSON, or through a template.

https://docs.docker.com/engine/cli/formatting/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sandbox.cli.parser import Option

FORMAT = Option(
    "format",
    "Format output: 'table', 'table TEMPLATE', 'json', or a Go template",
    kind="value",
)
FILTER = Option(
    "filter",
    "Filter output by KEY=VALUE",
    short="f",
    kind="list",
    metavar="filter",
)
QUIET = Option("quiet", "Only display ids", short="q")
NO_TRUNC = Option("no-trunc", "Don't truncate output")

_NARROWEST = 10
_GAP = 3
# C0, DEL and C1: what could move the cursor or retitle a terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SIMPLE_TEMPLATE = re.compile(r"(?:\{\{\.[A-Za-z]+\}\}(?:\\t|\t)?)+")


class Listing(Struct, frozen=True):
    """What a listing can show: the heading of each field, and the fields shown by default."""

    headings: Mapping[str, Any]
    shown: Sequence[str]
    quiet: str = "ID"  # what --quiet prints


def print_listing(
    listing: Listing, rows: Iterable[Mapping[str, Any]], form: str | None, *, quiet: bool = False
) -> None:
    """Print *rows* as --format and --quiet say. Raises TemplateError."""
    if quiet and not form:
        form = f"{{{{.{listing.quiet}}}}}"
    if not form or form == "table":
        form = "table " + "\t".join(f"{{{{.{field}}}}}" for field in listing.shown)
    if form == "json":
        form = "{{json .}}"
    form = _unescape(form)
    if form.startswith("table"):
        _print_table(listing, rows, form.removeprefix("table").lstrip(" "))
        return
    render = _renderer(form)
    for row in rows:
        print_line(render(row))


def print_object(value: Any, form: str) -> None:
    """Print one value as --format says: `json` or a template."""
    if form == "json":
        form = "{{json .}}"
    print_line(_renderer(_unescape(form))(value))


def print_line(line: str) -> None:
    """Print *line*; on a terminal, without what could control it."""
    print(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", line) if os.isatty(1) else line)


def _renderer(form: str) -> Any:
    from sandbox.cli.templates import Template

    return Template(form).render


def _unescape(form: str) -> str:
    """Replace \\t and \\n: a shell's quotes keep them as two letters each."""
    return form.replace("\\t", "\t").replace("\\n", "\n")


def _print_table(listing: Listing, rows: Iterable[Mapping[str, Any]], form: str) -> None:
    if _SIMPLE_TEMPLATE.fullmatch(form):
        # The usual table needs no template engine.
        fields = re.findall(r"\.([A-Za-z]+)", form)
        unknown = [field for field in fields if field not in listing.headings]
        if not unknown and "}}{{" not in form:
            cells = [[str(listing.headings[field]) for field in fields]]
            cells += [[str(row[field]) for field in fields] for row in rows]
            print_aligned(cells)
            return
    render = _renderer(form)
    lines = [render(listing.headings), *(render(row) for row in rows)]
    print_aligned([line.split("\t") for line in lines])


def print_aligned(rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* in columns: three spaces between them, none narrower than ten."""
    widths: dict[int, int] = {}
    rows = [[_CONTROL.sub("\N{REPLACEMENT CHARACTER}", cell) for cell in row] for row in rows]
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, _NARROWEST), len(cell) + _GAP)
    for row in rows:
        padded = [cell.ljust(widths[column]) for column, cell in enumerate(row[:-1])]
        print("".join([*padded, row[-1]]).rstrip() if row else "")

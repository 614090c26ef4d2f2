"""`sbx search`: repositories of a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.cli.filters import parse_filters
from sandbox.cli.formatting import FILTER, FORMAT, NO_TRUNC, Listing, print_listing
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError

if TYPE_CHECKING:
    from sandbox.engine.registry.search import Hit

_LIMIT, _MOST = 25, 100  # as docker
_WIDTH = 45
_HEADINGS: dict[str, Any] = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
}


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.registry.search import search

    limit = arguments.integer("limit")
    limit = _LIMIT if limit is None else limit
    if not 1 <= limit <= _MOST:
        raise UsageError(f"invalid limit: {limit}", hint=f"it is between 1 and {_MOST}")
    filters = parse_filters(arguments.texts("filter"), ("is-official", "stars"))
    hits = search(arguments.positionals[0], limit, context.environ)
    truncate = not arguments.flag("no-trunc")
    rows = [_row(hit, truncate=truncate) for hit in hits if _selected(hit, filters)]
    print_listing(Listing(_HEADINGS, tuple(_HEADINGS)), rows, arguments.text("format"))
    return 0


def _selected(hit: Hit, filters: dict[str, list[str]]) -> bool:
    for value in filters.get("stars", []):
        if not value.isdigit():
            raise UsageError(f"invalid filter: stars={value}", hint="write a number")
        if hit.stars < int(value):
            return False
    for value in filters.get("is-official", []):
        if value not in ("true", "false", "1", "0"):
            raise UsageError("invalid filter: is-official is true or false")
        if hit.official != (value in ("true", "1")):
            return False
    return True


def _row(hit: Hit, *, truncate: bool) -> dict[str, Any]:
    description = " ".join(hit.description.split())
    if truncate and len(description) > _WIDTH:
        description = description[: _WIDTH - 1] + "…"
    return {
        "Name": hit.name,
        "Description": description,
        "StarCount": str(hit.stars),
        "IsOfficial": "[OK]" if hit.official else "",
    }


COMMAND = Command(
    name="search",
    arguments="TERM",
    summary="Search a registry for images",
    run=run,
    options=(
        FILTER,
        FORMAT,
        Option("limit", "How many to show at the most (default 25)", kind="value", metavar="int"),
        NO_TRUNC,
    ),
    at_least=1,
    at_most=1,
    description="TERM may begin with a registry: HOST[:PORT]/WORD. A registry without a search of "
    "its own is asked for all its repositories.",
    examples=(
        Example("sbx search --filter is-official=true debian", "On Docker Hub"),
        Example("sbx search localhost:5000/", "All that a registry of your own has"),
    ),
)

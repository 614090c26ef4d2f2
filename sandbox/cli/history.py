"""`sbx history`: how an image was made, the newest step first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.cli import human
from sandbox.cli.formatting import FORMAT, NO_TRUNC, QUIET, Listing, print_listing
from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Option
from sandbox.engine.context import Context
from sandbox.errors import Conflict
from sandbox.image.config import parse_time
from sandbox.image.image import Image
from sandbox.image.store import Store

_MISSING = "<missing>"
_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_SHOWN = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")


def run(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    image = store.find(arguments.positionals[0])
    if image.builtin:
        raise Conflict(f"image {image.names[0]} is built in: it has no history")
    truncate = not arguments.flag("no-trunc")
    human_readable = arguments.flag_or_none("human") is not False
    rows = list(_rows(store, image, truncate=truncate, human_readable=human_readable))
    if arguments.flag("quiet") and truncate:
        rows = [{**row, "ID": row["ID"][:12]} for row in rows]
    listing = Listing(_HEADINGS, _SHOWN)
    print_listing(listing, rows, arguments.text("format"), quiet=arguments.flag("quiet"))
    return 0


def _rows(
    store: Store, image: Image, *, truncate: bool, human_readable: bool
) -> Iterator[dict[str, Any]]:
    sizes = [store.layers.size(diff_id) for diff_id in store.diff_ids(image.id)]
    shown = []
    for entry in image.history:
        size = 0 if entry.get("empty_layer") is True or not sizes else sizes.pop(0)
        shown.append(_row(entry, size, truncate, human_readable))
    if shown:
        digits = image.id.removeprefix("sha256:")
        shown[-1]["ID"] = digits[:12] if truncate else image.id
    yield from reversed(shown)


def _row(
    entry: dict[str, object], size: int, truncate: bool, human_readable: bool
) -> dict[str, Any]:
    created = parse_time(entry.get("created"))
    by = " ".join(str(entry.get("created_by") or "").split())
    if truncate and len(by) > 45:
        by = by[:44] + "…"
    at = "N/A" if created is None else human.timestamp(created)
    return {
        "ID": _MISSING,
        "CreatedSince": at if not human_readable or created is None else human.ago(created),
        "CreatedAt": at,
        "CreatedBy": by,
        "Size": human.size(size) if human_readable else str(size),
        "Comment": str(entry.get("comment") or ""),
    }


COMMAND = Command(
    name="history",
    arguments="IMAGE",
    summary="Show how an image was made",
    run=run,
    options=(
        FORMAT,
        NO_TRUNC,
        QUIET,
        Option("human", "Print sizes and dates for people (default true)", short="H"),
    ),
    at_least=1,
    at_most=1,
    completion="image",
)

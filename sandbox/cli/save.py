"""`sbx save`: images as one archive."""

from __future__ import annotations

import os
import sys

from sandbox.cli.image_store import open_store
from sandbox.cli.output_file import written_whole
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import Conflict, InvalidSpec, UsageError
from sandbox.image.reference import parse_reference
from sandbox.image.save import Saved, save
from sandbox.image.store import Store


def run(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    images = _images(store, arguments.positionals)
    output = arguments.text("output")
    if output is None:
        if os.isatty(1):
            raise UsageError("an archive is not for a terminal", hint="use -o FILE, or a pipe")
        save(store, images, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    _save_to_file(store, images, output)
    return 0


def _save_to_file(store: Store, images: list[Saved], path: str) -> None:
    with written_whole(path) as file:
        save(store, images, file)


def _images(store: Store, references: tuple[str, ...]) -> list[Saved]:
    """Return each image once, with all the names that it was asked for by."""
    found: dict[str, Saved] = {}
    for reference in references:
        image = store.find(reference)
        if image.builtin:
            raise Conflict(f"image {reference} is built in: there is nothing to save")
        known = found.get(image.id)
        names = known.names if known else ()
        name = _name(reference)
        if name in image.names:
            names = (*names, parse_reference(name))
        found[image.id] = Saved(store.manifest(image.id), store.diff_ids(image.id), names)
    return list(found.values())


def _name(reference: str) -> str:
    """Return the name in full that *reference* is, "" for an id."""
    try:
        return str(parse_reference(reference))
    except InvalidSpec:
        return ""


COMMAND = Command(
    name="save",
    arguments="IMAGE [IMAGE...]",
    summary="Save images to an archive",
    run=run,
    options=(Option("output", "Write to a file instead of standard output", "o", "value", "file"),),
    at_least=1,
    description="The archive is loaded by docker, podman and sbx, and read by skopeo.",
    completion="image",
    examples=(Example("sbx save app | ssh there sbx load", "Without a registry"),),
)

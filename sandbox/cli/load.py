"""`sbx load`: images from an archive."""

from __future__ import annotations

import os

from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import InvalidSpec, UsageError
from sandbox.image.content import file_chunks
from sandbox.image.load import load


def run(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    path = arguments.text("input")
    descriptor = _open(path)
    try:
        images = load(store, file_chunks(descriptor))
    finally:
        if path is not None:
            os.close(descriptor)
    for image in images:
        for name in image.names:
            print(f"Loaded image: {name.familiar}")
        if not image.names:
            print(f"Loaded image ID: {image.id}")
    return 0


def _open(path: str | None) -> int:
    if path is None:
        if os.isatty(0):
            raise UsageError("no archive on standard input", hint="use -i FILE, or a pipe")
        return 0
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidSpec(f"can't read {path}", detail=err.strerror) from err


COMMAND = Command(
    name="load",
    arguments="",
    summary="Load images from an archive",
    run=run,
    options=(
        Option("input", "Read from a file instead of standard input", "i", "value", "file"),
        Option("quiet", "Taken for docker's sake", short="q", hidden=True),
    ),
    at_most=0,
    description="Archives of docker, podman, skopeo (docker-archive, oci-archive) and sbx are "
    "understood, packed or not.",
    examples=(Example("sbx load -i images.tar", "From a file"),),
)

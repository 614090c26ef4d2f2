"""`sbx tag`: a further name for an image."""

from __future__ import annotations

from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    source, target = arguments.positionals
    open_store(context).tag(source, target)
    return 0


COMMAND = Command(
    name="tag",
    arguments="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    summary="Give an image a further name",
    run=run,
    at_least=2,
    at_most=2,
    completion="image",
    examples=(Example("sbx tag app localhost:5000/team/app:1", "Name it for a registry"),),
)

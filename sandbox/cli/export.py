"""`sbx export`: a container's whole tree as a tar archive."""

from __future__ import annotations

import os
import sys

from sandbox.cli.each import open_containers
from sandbox.cli.image_store import say_left_out
from sandbox.cli.output_file import written_whole
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.uppers import upper_of
    from sandbox.image.export import Export

    output = arguments.text("output")
    if output is None and os.isatty(1):
        raise UsageError("an archive is not for a terminal", hint="use -o FILE, or a pipe")
    container = open_containers(context).find(arguments.positionals[0])
    context.enter_storage()
    export = Export(upper_of(container))
    if output is None:
        for chunk in export:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    else:
        with written_whole(os.path.abspath(output)) as file:
            for chunk in export:
                file.write(chunk)
    if export.left_out.left_out:
        say_left_out(export.left_out)
    return 0


COMMAND = Command(
    name="export",
    arguments="CONTAINER",
    summary="Export a container's file system as a tar archive",
    run=run,
    options=(
        Option(
            "output",
            "Write to a file, instead of standard output",
            "o",
            "value",
            completion="file",
        ),
    ),
    at_least=1,
    at_most=1,
    description="What is in volumes and other mounts is not part of it.",
    completion="container",
    examples=(Example("sbx export work | sbx import - flat", "An image of a single layer"),),
)

"""`sbx cp`: files between a container and the host."""

from __future__ import annotations

import os
import sys

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.copy import copy_in, copy_out
    from sandbox.image.tree_copy import Source

    source, destination = arguments.positionals
    from_container, from_path = _split(source)
    to_container, to_path = _split(destination)
    if (from_container is None) == (to_container is None):
        raise UsageError(
            "one of the two is to be in a container, and just one", hint="write CONTAINER:PATH"
        )
    if destination == "-" and os.isatty(1):
        raise UsageError("an archive is not for a terminal", hint="use a pipe")
    containers = open_containers(context)
    follow, archive = arguments.flag("follow-link"), arguments.flag("archive")
    if from_container is not None:
        container = containers.find(from_container)
        context.enter_storage()
        sys.stdout.flush()
        wanted = Source(_contained(from_path), follow, archive)
        said = copy_out(container, wanted, 1 if to_path == "-" else _absolute(to_path))
    else:
        assert to_container is not None
        container = containers.find(to_container)
        context.enter_storage()
        given = 0 if from_path == "-" else Source(_absolute(from_path), follow, archive)
        said = copy_in(container, given, _contained(to_path))
    if said:
        print(f"sbx: left out: {said}", file=sys.stderr)
    return 0


def _split(text: str) -> tuple[str | None, str]:
    """Return `CONTAINER:PATH` in two; what begins like a path or has no colon is the host's."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith((".", "/")) or "/" in container:
        return None, text
    return container, path


def _contained(path: str) -> str:
    """Return a path of the container: relative ones begin at its root, as in docker."""
    return path if path.startswith("/") else f"/{path}"


def _absolute(path: str) -> str:
    """Return a path of the host in full, with the end that says "what is in it"."""
    return path if path.startswith("/") else f"{os.getcwd().rstrip('/')}/{path}"


COMMAND = Command(
    name="cp",
    arguments="CONTAINER:PATH PATH|- or PATH|- CONTAINER:PATH",
    summary="Copy files between a container and the host",
    run=run,
    options=(
        Option("archive", "Keep the owners", "a"),
        Option("follow-link", "Copy what a symbolic link leads to", "L"),
        Option("quiet", "No progress is shown anyway", "q", hidden=True),
    ),
    at_least=2,
    at_most=2,
    description="A directory that ends with /. stands for what is in it; - is a tar archive on "
    "standard input or output. The container need not run; what is in the volumes of one that "
    "does not is not seen.",
    completion="container",
    examples=(
        Example("sbx cp ./app.conf web:/etc/app/", "Into a directory of the container"),
        Example("sbx cp web:/var/log - | tar tv", "As an archive"),
    ),
)

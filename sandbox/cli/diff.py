"""`sbx diff`: what a container changed in its root file system."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.cli.each import open_containers
from sandbox.cli.formatting import FORMAT, Listing, print_listing
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context
from sandbox.state import Container


def run(arguments: Arguments, context: Context) -> int:
    container = open_containers(context).find(arguments.positionals[0])
    context.enter_storage()
    rows = [{"Type": kind, "Path": path} for kind, path in _changes(container)]
    form = arguments.text("format") or "{{.Type}} {{.Path}}"
    print_listing(Listing({}, ("Type", "Path")), rows, form, quiet=False)
    return 0


def _changes(container: Container) -> Iterator[tuple[str, str]]:
    """Yield docker's letter and the path: A added, C changed, D deleted."""
    from sandbox.engine.uppers import upper_of
    from sandbox.image.apply_layer import printable
    from sandbox.image.upper_walk import Removed, differences

    for difference in differences(upper_of(container)):
        path = "/" + printable(difference.path, most=4096)
        if not isinstance(difference, Removed):
            yield "A" if difference.added else "C", path
            continue
        for name in difference.inside:
            yield "D", f"{path.rstrip('/')}/{printable(name)}"
        if not difference.opaque:
            yield "D", path


COMMAND = Command(
    name="diff",
    arguments="CONTAINER",
    summary="Show what a container changed in its root file system",
    run=run,
    options=(FORMAT,),
    at_least=1,
    at_most=1,
    description="A: added, C: changed, D: deleted. What is in volumes and other mounts does not "
    "count.",
    completion="container",
    examples=(Example("sbx diff work", "What an image made of it would have of its own"),),
)

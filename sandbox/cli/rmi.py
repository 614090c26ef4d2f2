"""`sbx rmi`: remove names of images, and images with their last name."""

from __future__ import annotations

from sandbox.cli.each import for_each
from sandbox.cli.image_store import familiar, images_in_use, open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.image.store import Removed


def run(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    force = arguments.flag("force")

    def remove(reference: str) -> None:
        done = store.remove(reference, force=force, in_use=lambda: images_in_use(context))
        print_removed(done)

    return for_each(arguments.positionals, remove)


def print_removed(removed: Removed) -> None:
    """Print docker's lines."""
    for name in removed.untagged:
        print(f"Untagged: {familiar(name)}", flush=True)
    for image_id in removed.deleted:
        print(f"Deleted: {image_id}", flush=True)


COMMAND = Command(
    name="rmi",
    arguments="IMAGE [IMAGE...]",
    summary="Remove one or more images",
    run=run,
    options=(
        Option("force", "Remove it although containers use it, or with several names", short="f"),
        Option("no-prune", "Taken for docker's sake", hidden=True),
    ),
    at_least=1,
    completion="image",
    description="An image goes with its last name. Containers that were made from it keep its "
    "layers until they are removed.",
    examples=(Example("sbx rmi debian:bookworm", "Remove a name, and maybe the image"),),
)

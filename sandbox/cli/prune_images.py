"""`sbx image prune`: remove the images that nobody needs."""

from __future__ import annotations

from sandbox.cli import human
from sandbox.cli.confirm import confirmed
from sandbox.cli.image_filters import PRUNED, image_filter
from sandbox.cli.image_store import images_in_use, open_store
from sandbox.cli.parser import Arguments, Command, Option
from sandbox.cli.rmi import print_removed
from sandbox.engine.context import Context
from sandbox.image.store import Removed

_DANGLING = "WARNING! This will remove all images without a name."
_ALL = "WARNING! This will remove all images without at least one container associated to them."


def run(arguments: Arguments, context: Context) -> int:
    everything = arguments.flag("all")
    if not arguments.flag("force") and not confirmed(_ALL if everything else _DANGLING):
        return 0
    removed = prune(arguments.texts("filter"), context, everything=everything)
    if removed.untagged or removed.deleted:
        print("Deleted Images:")
        print_removed(removed)
        print()
    print(f"Total reclaimed space: {human.size(removed.freed)}")
    return 0


def prune(filters: tuple[str, ...], context: Context, *, everything: bool) -> Removed:
    """Remove images without a name, or with *everything* all that no container uses."""
    store = open_store(context)
    selects = image_filter(filters, store, PRUNED)
    return store.prune(
        everything=everything,
        in_use=lambda: images_in_use(context),
        keep=lambda image: not selects(image),
    )


COMMAND = Command(
    name="image prune",
    arguments="",
    summary="Remove unused images",
    run=run,
    options=(
        Option("all", "Remove all unused images, not just those without a name", short="a"),
        Option("force", "Do not prompt for confirmation", short="f"),
        Option("filter", "Only those of KEY=VALUE: until, label", kind="list", metavar="filter"),
    ),
    at_most=0,
)

"""`sbx builder prune`: forget the results of builds' steps, and their cache mounts."""

from __future__ import annotations

from sandbox.cli import human
from sandbox.cli.confirm import confirmed
from sandbox.cli.image_store import images_in_use, open_store
from sandbox.cli.parser import Arguments, Command, Option
from sandbox.engine.context import Context

_WARNING = "WARNING! This will remove the build cache. Images stay."
_ALL = "WARNING! This will remove the build cache and all cache mounts. Images stay."


def prune(arguments: Arguments, context: Context) -> int:
    everything = arguments.flag("all")
    if not arguments.flag("force") and not confirmed(_ALL if everything else _WARNING):
        return 0
    freed = prune_builds(context, everything=everything)
    print(f"Total:\t{human.size(freed)}")
    return 0


def prune_builds(context: Context, *, everything: bool) -> int:
    """Remove the records of steps, with *everything* also cache mounts; return the bytes freed."""
    from sandbox.image.layers import tree_size
    from sandbox.linux.trees import remove_tree

    store = open_store(context)
    freed = store.prune_steps(lambda: images_in_use(context))
    mounts = store.layout.root / "mounts"
    if everything and mounts.exists():
        freed += tree_size(mounts)
        remove_tree(mounts)
    return freed


PRUNE = Command(
    name="builder prune",
    arguments="",
    summary="Remove what builds keep for the next ones",
    run=prune,
    options=(
        Option("all", "Remove cache mounts, too", short="a"),
        Option("force", "Do not prompt for confirmation", short="f"),
    ),
    at_most=0,
)

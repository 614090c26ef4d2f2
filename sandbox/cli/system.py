"""`sbx system df|prune|check|reset`: what is stored, whether it is whole, getting rid of it."""

from __future__ import annotations

import os
from typing import Any

from sandbox.cli import human
from sandbox.cli.confirm import confirmed
from sandbox.cli.each import open_containers
from sandbox.cli.formatting import FORMAT, Listing, print_listing
from sandbox.cli.image_store import images_in_use, open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.cli.rmi import print_removed
from sandbox.engine.context import Context
from sandbox.paths import Paths
from sandbox.state import Container, Containers

_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RESET = "WARNING! This will remove all containers, images and volumes, running or in use or not."


def df(arguments: Arguments, context: Context) -> int:
    store = open_store(context)
    images = store.disk_usage(lambda: images_in_use(context))
    rows = [
        _row("Images", images.images, images.active, images.size, images.reclaimable),
        _containers_row(list(open_containers(context).all())),
        _volumes_row(context),
        _builds_row(context),
    ]
    print_listing(Listing(_HEADINGS, tuple(_HEADINGS)), rows, arguments.text("format"))
    return 0


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    share = f" ({100 * reclaimable // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human.size(size),
        "Reclaimable": human.size(reclaimable) + share,
    }


def _containers_row(containers: list[Container]) -> dict[str, Any]:
    from sandbox.engine.disk_usage import upper_size

    sizes = {container.spec.id: upper_size(container) for container in containers}
    stopped = sum(sizes[c.spec.id] for c in containers if not c.running)
    running = sum(container.running for container in containers)
    return _row("Containers", len(containers), running, sum(sizes.values()), stopped)


def _volumes_row(context: Context) -> dict[str, Any]:
    from sandbox.image.layers import tree_size

    used = _used_volumes(Containers(context.paths))
    sizes = {name: tree_size(context.paths.volumes / name) for name in _volumes(context.paths)}
    unused = sum(size for name, size in sizes.items() if name not in used)
    active = sum(name in used for name in sizes)
    return _row("Local Volumes", len(sizes), active, sum(sizes.values()), unused)


def _builds_row(context: Context) -> dict[str, Any]:
    """What only records of builds' steps keep, and cache mounts."""
    from sandbox.image.garbage import kept_by_steps
    from sandbox.image.layers import tree_size

    store = open_store(context)
    count, size = kept_by_steps(store.layout, store.layers)
    mounts = store.layout.root / "mounts"
    size += tree_size(mounts) if mounts.exists() else 0
    return _row("Build Cache", count, 0, size, size)


def _volumes(paths: Paths) -> list[str]:
    try:
        return sorted(os.listdir(paths.volumes))
    except FileNotFoundError:
        return []


def _used_volumes(containers: Containers) -> set[str]:
    return {m.source for c in containers.all() for m in c.spec.mounts if m.type == "volume"}


def prune(arguments: Arguments, context: Context) -> int:
    from sandbox.cli.builder import prune_builds
    from sandbox.cli.prune_images import prune as prune_images

    everything = arguments.flag("all")
    volumes = arguments.flag("volumes")
    if not arguments.flag("force") and not confirmed(_warning(everything, volumes)):
        return 0
    filters = arguments.texts("filter")
    context.enter_storage()
    freed = _prune_containers(filters, context)
    if volumes:
        freed += _prune_volumes(context)
    removed = prune_images(filters, context, everything=everything)
    if removed.untagged or removed.deleted:
        print("Deleted Images:")
        print_removed(removed)
        print()
    freed += prune_builds(context, everything=everything)
    print(f"Total reclaimed space: {human.size(freed + removed.freed)}")
    return 0


def _warning(everything: bool, volumes: bool) -> str:
    doomed = ["all stopped containers"]
    if volumes:
        doomed.append("all volumes not used by at least one container")
    doomed.append("all images without at least one container" if everything else "unnamed images")
    doomed.append("the build cache, with cache mounts" if everything else "the build cache")
    return "WARNING! This will remove:\n" + "\n".join(f"  - {what}" for what in doomed)


def _prune_containers(filters: tuple[str, ...], context: Context) -> int:
    from sandbox.engine import containers
    from sandbox.engine.disk_usage import upper_size

    known = open_containers(context)
    selects = _container_filter(filters)
    doomed = [c for c in known.all() if not c.running and selects(c)]
    freed = sum(map(upper_size, doomed))
    if doomed:
        print("Deleted Containers:")
    for container in doomed:
        containers.remove(container, context)
        print(container.spec.id)
    if doomed:
        print()
    return freed


def _container_filter(filters: tuple[str, ...]) -> Any:
    import time

    from sandbox.cli.filters import has_labels, parse_filters
    from sandbox.engine.times import parse_moment

    parsed = parse_filters(filters, ("label", "until"))
    moments = [parse_moment(text, time.time()) for text in parsed.get("until", [])]
    return lambda container: (
        has_labels(dict(container.spec.labels), parsed.get("label", []))
        and all(container.spec.created < moment for moment in moments)
    )


def _prune_volumes(context: Context) -> int:
    from sandbox.image.layers import tree_size
    from sandbox.linux.trees import remove_tree

    used = _used_volumes(Containers(context.paths))
    doomed = [name for name in _volumes(context.paths) if name not in used]
    freed = sum(tree_size(context.paths.volumes / name) for name in doomed)
    if doomed:
        print("Deleted Volumes:")
    for name in doomed:
        remove_tree(context.paths.volumes / name)
        print(name)
    if doomed:
        print()
    return freed


def reset(arguments: Arguments, context: Context) -> int:
    from sandbox.engine import containers
    from sandbox.linux.trees import remove_tree

    if not arguments.flag("force") and not confirmed(_RESET):
        return 0
    context.enter_storage()
    for container in list(open_containers(context).all()):
        containers.remove(container, context, force=True)
    open_store(context).reset()
    for directory in (context.paths.containers, context.paths.volumes):
        if directory.exists():
            remove_tree(directory)
    return 0


def check(arguments: Arguments, context: Context) -> int:
    from sandbox.image.check import check as check_store

    store = open_store(context)
    problems = check_store(store, repair=arguments.flag("repair"))
    for problem in problems:
        done = f" ({problem.repaired})" if problem.repaired else ""
        print(f"{problem.what}: {problem.detail}{done}")
    if not problems:
        print("The image store is whole.")
        return 0
    if all(problem.repaired for problem in problems):
        store.collect(lambda: images_in_use(context))
        return 0
    print("sbx system check --repair mends what can be mended.")
    return 1


_FORCE = Option("force", "Do not prompt for confirmation", short="f")
_NO_ARGUMENTS = 0

DF = Command(
    name="system df",
    arguments="",
    summary="Show how much disk space is used",
    run=df,
    options=(FORMAT, Option("verbose", "Taken for docker's sake", short="v", hidden=True)),
    at_most=_NO_ARGUMENTS,
)
PRUNE = Command(
    name="system prune",
    arguments="",
    summary="Remove what is not used",
    run=prune,
    options=(
        Option("all", "Remove all unused images, not just those without a name", short="a"),
        _FORCE,
        Option("volumes", "Remove volumes that no container uses"),
        Option("filter", "Only what is of KEY=VALUE: until, label", kind="list", metavar="filter"),
    ),
    at_most=_NO_ARGUMENTS,
    examples=(Example("sbx system prune --all --volumes --force", "All that is not in use"),),
)
RESET = Command(
    name="system reset",
    arguments="",
    summary="Remove all containers, images and volumes",
    run=reset,
    options=(_FORCE,),
    at_most=_NO_ARGUMENTS,
)
CHECK = Command(
    name="system check",
    arguments="",
    summary="Check that the image store is whole",
    run=check,
    options=(Option("repair", "Remove what is damaged, so that it can be fetched again"),),
    at_most=_NO_ARGUMENTS,
)

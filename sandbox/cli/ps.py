"""`sbx ps`: the containers, newest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.cli import human
from sandbox.cli.each import open_containers
from sandbox.cli.formatting import FILTER, FORMAT, NO_TRUNC, QUIET, Listing, print_listing
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.engine.inspection import state_of
from sandbox.state import Container

_SHOWN = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADINGS: dict[str, Any] = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Profile": "PROFILE",
}


def run(arguments: Arguments, context: Context) -> int:
    chosen = _chosen(arguments, context)
    size = _sizer(arguments, context)
    rows = (row(c, size=size, truncate=not arguments.flag("no-trunc")) for c in chosen)
    shown = (*_SHOWN, "Size") if arguments.flag("size") else _SHOWN
    listing = Listing({**HEADINGS, "Label": str}, shown)
    print_listing(listing, rows, arguments.text("format"), quiet=arguments.flag("quiet"))
    return 0


def _chosen(arguments: Arguments, context: Context) -> Iterator[Container]:
    from sandbox.cli.container_filters import container_filter

    known = sorted(open_containers(context).all(), key=lambda c: -c.spec.created)
    given = arguments.texts("filter")
    selects = container_filter(given, known, context)
    last = 1 if arguments.flag("latest") else arguments.integer("last") or 0
    every = arguments.flag("all") or last > 0 or _asks_for_state(given)
    matching = (c for c in known if (every or c.running) and selects(c))
    for number, container in enumerate(matching):
        if last > 0 and number >= last:
            return
        yield container


def _asks_for_state(filters: tuple[str, ...]) -> bool:
    """These filters show stopped containers without --all."""
    return any(text.split("=")[0].strip() in ("status", "exited") for text in filters)


def _sizer(arguments: Arguments, context: Context) -> Callable[[Container], str]:
    form = arguments.text("format") or ""
    if not arguments.flag("size") and ".Size" not in form:
        return lambda container: "0B"
    from sandbox.engine.disk_usage import upper_size

    # What the subordinate ids own is closed to the user.
    context.enter_storage()
    return lambda container: human.size(upper_size(container))


def row(
    container: Container, *, size: Callable[[Container], str], truncate: bool
) -> dict[str, Any]:
    """Return what templates and columns show of a container."""
    spec = container.spec
    labels = dict(spec.labels)
    return {
        "ID": spec.id[:12] if truncate else spec.id,
        "Image": spec.image,
        "Command": _command(spec.argv, truncate=truncate),
        "CreatedAt": human.timestamp(spec.created),
        "RunningFor": human.ago(spec.created),
        "Ports": ", ".join(container.status.ports) if container.running else "",
        "State": state_of(container),
        "Status": status_text(container, time.time()),
        "Size": size(container),
        "Names": spec.name,
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Mounts": ",".join(_shortened(m.source or m.target, truncate) for m in spec.mounts),
        "Networks": spec.network,
        "LocalVolumes": str(sum(mount.type == "volume" for mount in spec.mounts)),
        "Profile": spec.profile,
        "Label": lambda key: labels.get(key, ""),
    }


def status_text(container: Container, now: float) -> str:
    """Return `Up 3 seconds`, `Exited (0) 2 minutes ago` or `Created`."""
    status, state = container.status, state_of(container)
    if state in ("running", "paused"):
        up = f"Up {human.duration(now - (status.started_at or container.spec.created))}"
        return f"{up} (Paused)" if state == "paused" else up
    if state == "created":
        return "Created"
    ended = human.ago(status.finished_at or container.spec.created, now)
    return f"Exited ({status.exit_code}) {ended}"


def _command(argv: tuple[str, ...], *, truncate: bool) -> str:
    """Return the command in quotes, which also makes control characters harmless."""
    text = " ".join(argv)
    if truncate and len(text) > 20:
        text = text[:19] + "…"
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) + '"'


def _shortened(text: str, truncate: bool) -> str:
    return text[:14] + "…" if truncate and len(text) > 15 else text


COMMAND = Command(
    name="ps",
    arguments="",
    summary="List containers",
    run=run,
    options=(
        Option("all", "Show all containers (default shows just running)", short="a"),
        QUIET,
        FILTER,
        FORMAT,
        NO_TRUNC,
        Option("last", "Show N last created containers (includes all states)", "n", "value", "int"),
        Option("latest", "Show the latest created container (includes all states)", short="l"),
        Option("size", "Display total file sizes", short="s"),
    ),
    at_most=0,
    examples=(
        Example("sbx ps -a --filter status=exited", "What has ended"),
        Example("sbx ps --format '{{.Names}}: {{.Status}}'", "Your own columns"),
    ),
)

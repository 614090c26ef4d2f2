"""Making the state on disk true again after a crash."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sandbox.engine.removal import delete, discard, empty_trash
from sandbox.engine.sweep import sweep
from sandbox.linux import cgroups
from sandbox.state import Container, Containers

# docker's code for a container whose end nobody saw.
_UNKNOWN_END = 255


def reconcile(containers: Containers) -> None:
    """Mark containers whose supervisor died as exited, and remove what they left.

    The kernel has ended their processes and mounts already (see `overlay.guard`); what is left
    is on disk and in the cgroup tree. Cheap when there is nothing to do.
    """
    known = list(containers.all())
    running = frozenset(f"c-{c.spec.id[:24]}" for c in known if c.running)
    sweep(containers.paths.runtime, running)
    empty_trash(containers)
    dead = any(container.abandoned for container in known)
    if not dead and not _abandoned_spares(containers):
        return
    with containers.lock(shared=False):
        for container in containers.all():
            if container.abandoned:
                _bury(containers, container)
        for directory, cgroup in _abandoned_spares(containers):
            if cgroup:
                cgroups.remove_abandoned(cgroup)
            delete(directory)
        _release_names(containers)


def _bury(containers: Containers, container: Container) -> None:
    if container.status.cgroup:
        cgroups.remove_abandoned(container.status.cgroup)
    socket = containers.paths.runtime / f"c-{container.spec.id[:24]}"
    socket.unlink(missing_ok=True)
    if container.spec.remove or container.status.phase == "created":
        discard(containers, container.directory, container.spec)
        return
    containers.update_status(
        container.directory,
        phase="exited",
        exit_code=_UNKNOWN_END,
        finished_at=time.time(),
        error="its supervisor was killed",
    )


def _abandoned_spares(containers: Containers) -> list[tuple[Path, str]]:
    """Return the directories of containers whose maker has died, with their cgroups."""
    return [
        (directory, status.cgroup)
        for directory, status in containers.spares()
        if status.supervisor is None or not status.supervisor.alive()
    ]


def _release_names(containers: Containers) -> None:
    for link in containers.names.iterdir():
        if not (containers.root / os.readlink(link)).is_dir():
            link.unlink(missing_ok=True)

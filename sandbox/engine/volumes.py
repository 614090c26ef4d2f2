"""Volumes on disk: `Paths.volumes`/NAME/_data, as docker lays them out."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from sandbox.errors import Conflict, InvalidSpec, NotFound
from sandbox.linux.trees import remove_tree
from sandbox.paths import Paths, make_private
from sandbox.spec import ContainerSpec
from sandbox.state import Containers

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Volume(Struct, frozen=True):
    """A volume and the containers that use it, by name."""

    name: str
    data: Path
    created: float  # seconds since the epoch
    users: tuple[str, ...] = ()


def anonymous_volume(container_id: str, target: str) -> str:
    """Return the name of a volume that belongs to one container: it can be removed with it."""
    import hashlib

    return hashlib.sha256(f"{container_id}:{target}".encode()).hexdigest()


def remove_anonymous(spec: ContainerSpec, paths: Paths) -> None:
    """Remove the volumes that were made for this container alone. In the storage namespace."""
    for mount in spec.mounts:
        if mount.type == "volume" and mount.source == anonymous_volume(spec.id, mount.target):
            with suppress(OSError):
                remove_tree(paths.volumes / mount.source)


def volumes(paths: Paths) -> list[Volume]:
    """Return all volumes, by name."""
    users: dict[str, list[str]] = {}
    for container in Containers(paths).all():
        for mount in container.spec.mounts:
            if mount.type == "volume":
                users.setdefault(mount.source, []).append(container.spec.name)
    try:
        names = sorted(os.listdir(paths.volumes))
    except FileNotFoundError:
        return []
    return [_volume(name, paths, tuple(users.get(name, ()))) for name in names]


def _volume(name: str, paths: Paths, users: tuple[str, ...]) -> Volume:
    directory = paths.volumes / name
    return Volume(name, directory / "_data", directory.stat().st_mtime, users)


def find_volume(name: str, paths: Paths) -> Volume:
    """Return the volume called *name*. Raises NotFound."""
    for volume in volumes(paths):
        if volume.name == name:
            return volume
    raise NotFound(f"no such volume: {name}", hint="sbx volume ls")


def create_volume(name: str, paths: Paths) -> None:
    """Make a volume, or leave the one that is there as it is. Raises InvalidSpec."""
    if not _NAME.fullmatch(name):
        raise InvalidSpec(
            f"invalid volume name {name!r}", hint="letters, digits, '_', '.' and '-', two at least"
        )
    (make_private(paths.volumes) / name / "_data").mkdir(parents=True, exist_ok=True)


def remove_volume(name: str, paths: Paths) -> None:
    """Remove a volume. In the storage namespace. Raises NotFound, Conflict while it is in use."""
    volume = find_volume(name, paths)
    if volume.users:
        raise Conflict(
            f"volume {name} is in use by {', '.join(volume.users)}",
            hint=f"sbx rm {' '.join(volume.users)}",
        )
    remove_tree(volume.data.parent)

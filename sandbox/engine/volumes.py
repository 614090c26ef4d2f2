"""Volumes on disk: `Paths.volumes`/NAME/_data, as docker lays them out."""

from __future__ import annotations

import shutil

from sandbox.paths import Paths
from sandbox.spec import ContainerSpec


def anonymous_volume(container_id: str, target: str) -> str:
    """Return the name of a volume that belongs to one container: it can be removed with it."""
    import hashlib

    return hashlib.sha256(f"{container_id}:{target}".encode()).hexdigest()


def remove_anonymous(spec: ContainerSpec, paths: Paths) -> None:
    """Remove the volumes that were made for this container alone. In the storage namespace."""
    for mount in spec.mounts:
        if mount.type == "volume" and mount.source == anonymous_volume(spec.id, mount.target):
            shutil.rmtree(paths.volumes / mount.source, ignore_errors=True)

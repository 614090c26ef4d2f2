"""Volumes on disk: `Paths.volumes`/NAME/_data, as docker lays them out."""

from __future__ import annotations

from sandbox.engine.removal import remove_tree
from sandbox.engine.resolve import anonymous_volume
from sandbox.paths import Paths
from sandbox.spec import ContainerSpec


def remove_anonymous(spec: ContainerSpec, paths: Paths) -> None:
    """Remove the volumes that were made for this container alone. In the storage namespace."""
    for mount in spec.mounts:
        if mount.type == "volume" and mount.source == anonymous_volume(spec.id, mount.target):
            remove_tree(paths.volumes / mount.source)

"""Removing containers: the name and the spec first, so that a crash leaves only litter."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from sandbox.engine.volumes import remove_anonymous
from sandbox.spec import ContainerSpec, from_json
from sandbox.state import Containers

_TRASH = ".trash-"


def discard(containers: Containers, directory: Path, spec: ContainerSpec) -> None:
    """Remove a container that does not run. This process is in the storage namespace."""
    trash = directory.with_name(f"{_TRASH}{spec.id}")
    try:
        directory.rename(trash)
    except FileNotFoundError:
        return
    containers.release_name(_renamed(trash) or spec)
    remove_tree(trash)
    if spec.remove:
        remove_anonymous(spec, containers.paths)


def _renamed(trash: Path) -> ContainerSpec | None:
    """Return the spec as it is on disk: a supervisor does not know of a `rename`."""
    try:
        return from_json(ContainerSpec, json.loads((trash / "spec.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def remove_tree(tree: Path) -> None:
    """Delete *tree*, whatever the modes in it; what can't be deleted now stays as trash."""
    shutil.rmtree(tree, ignore_errors=True)


def empty_trash(containers: Containers) -> None:
    """Delete what a crash or a lack of privilege left. In the storage namespace."""
    if containers.root.is_dir():
        for entry in os.listdir(containers.root):
            if entry.startswith(_TRASH):
                remove_tree(containers.root / entry)

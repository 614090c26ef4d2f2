"""Removing containers: the name and the spec first, so that a crash leaves only litter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sandbox.engine.volumes import remove_anonymous
from sandbox.spec import ContainerSpec
from sandbox.state import Containers

_TRASH = ".trash-"


def discard(containers: Containers, directory: Path, spec: ContainerSpec) -> None:
    """Remove a container that does not run. This process is in the storage namespace."""
    trash = directory.with_name(f"{_TRASH}{spec.id}")
    try:
        directory.rename(trash)
    except FileNotFoundError:
        return
    link = containers.names / spec.name
    try:
        if os.readlink(link) == spec.id:
            link.unlink()
    except OSError:
        pass
    remove_tree(trash)
    if spec.remove:
        remove_anonymous(spec, containers.paths)


def remove_tree(tree: Path) -> None:
    """Delete *tree*, whatever the modes in it; what can't be deleted now stays as trash."""
    shutil.rmtree(tree, ignore_errors=True)


def empty_trash(containers: Containers) -> None:
    """Delete what a crash or a lack of privilege left. In the storage namespace."""
    if containers.root.is_dir():
        for entry in os.listdir(containers.root):
            if entry.startswith(_TRASH):
                remove_tree(containers.root / entry)

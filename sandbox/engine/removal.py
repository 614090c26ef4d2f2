"""Removing containers: the name and the spec first, so that a crash leaves only litter."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.engine.volumes import remove_anonymous
from sandbox.linux.trees import remove_tree
from sandbox.spec import ContainerSpec, from_json
from sandbox.state import Containers

_TRASH = ".trash-"


def discard(containers: Containers, directory: Path, spec: ContainerSpec) -> None:
    """Remove a container that does not run. This process is in the storage namespace."""
    trash = throw_away(containers, directory, spec)
    if trash is not None:
        delete(trash)


def throw_away(containers: Containers, directory: Path, spec: ContainerSpec) -> Path | None:
    """Make a container that does not run unknown; return what is to be deleted of it.

    None when somebody else was quicker.
    """
    trash = directory.with_name(f"{_TRASH}{spec.id}")
    try:
        directory.rename(trash)
    except FileNotFoundError:
        return None
    if not containers.release_name(spec) and (renamed := _renamed(trash)):
        containers.release_name(renamed)
    if spec.remove:
        remove_anonymous(spec, containers.paths)
    return trash


def _renamed(trash: Path) -> ContainerSpec | None:
    """Return the spec as it is on disk: a supervisor does not know of a `rename`."""
    try:
        return from_json(ContainerSpec, json.loads((trash / "spec.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def delete(tree: Path) -> None:
    """Delete *tree*, whatever the modes in it; what can't be deleted now stays for the next one."""
    with suppress(OSError), _alone_at(tree) as alone:
        if alone:
            remove_tree(tree)


def empty_trash(containers: Containers) -> None:
    """Delete what a crash left; what somebody is deleting is left to them."""
    with suppress(FileNotFoundError):
        for entry in os.listdir(containers.root):
            if entry.startswith(_TRASH):
                delete(containers.root / entry)


@contextmanager
def _alone_at(tree: Path) -> Iterator[bool]:
    """Tell whether nobody else deletes *tree*, and keep others from it (flock(2))."""
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        yield alone
    finally:
        os.close(descriptor)

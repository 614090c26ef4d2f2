"""The image store for commands, and what containers need of it."""

from __future__ import annotations

import sys

from sandbox.engine.context import Context
from sandbox.image.apply_layer import Applied
from sandbox.image.garbage import InUse
from sandbox.image.reference import parse_reference
from sandbox.image.store import Store
from sandbox.state import Containers


def open_store(context: Context) -> Store:
    """Return the user's images; from here on this process is in the storage namespace."""
    context.enter_storage()
    return Store(context.paths)


def images_in_use(context: Context) -> InUse:
    """Return what the containers need, running or not."""
    specs = [container.spec for container in Containers(context.paths).all()]
    return InUse(
        images=frozenset(spec.image_id for spec in specs),
        layers=frozenset(layer for spec in specs for layer in spec.lower if layer != "/"),
    )


def familiar(name: str) -> str:
    """Return a name in full as people write it: `debian:latest`."""
    return parse_reference(name).familiar


def say_left_out(applied: Applied) -> None:
    """Tell what a layer had that was not unpacked."""
    print(f"sbx: left out: {applied.describe_left_out()}", file=sys.stderr)

"""`sbx commit`: an image of a container and its changes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import ExitStack

from msgspec import structs

from sandbox.engine.pause import paused
from sandbox.engine.uppers import refuse_host, upper_of
from sandbox.errors import NotFound
from sandbox.image.changes import apply_changes
from sandbox.image.commit import Change, Committed, commit
from sandbox.image.config import ImageConfig, with_env
from sandbox.image.names import name_for
from sandbox.image.store import Store
from sandbox.spec import ContainerSpec
from sandbox.state import Container

# What a container's environment has of sbx, not of the user.
_OURS = frozenset(("HOSTNAME", "TERM", "PATH"))


def commit_container(
    container: Container,
    store: Store,
    reference: str = "",
    *,
    author: str = "",
    message: str = "",
    changes: Iterable[str] = (),
    epoch: int | None = None,
    pause: bool = True,
) -> Committed:
    """Make an image of *container*, which runs or not; *epoch* as in `Change`.

    Raises InvalidSpec, Conflict (of the image host), NotFound (its image is gone), StoreError.
    """
    refuse_host(container)
    name = name_for(reference) if reference else None
    spec = container.spec
    try:
        image = store.find(spec.image_id)
    except NotFound as err:
        raise NotFound(
            f"the image of container {spec.name} is not there any more",
            detail=spec.image_id,
            hint=f"sbx export {spec.name} | sbx import - NAME takes the whole tree",
        ) from err
    config = apply_changes(_config(spec, image.config), changes)
    change = Change(config, shlex.join(spec.argv), message, author, epoch)
    with ExitStack() as stack:
        if pause:
            stack.enter_context(paused(container))
        return commit(store, image.id, change, upper_of(container), name)


def _config(spec: ContainerSpec, image: ImageConfig) -> ImageConfig:
    """Return how the container ran, as its image's configuration would say it."""
    config = image
    for key, value in spec.env:
        if key not in _OURS or (key in dict(image.env) and key == "PATH"):
            config = with_env(config, key, value)
    entrypoint = image.entrypoint or ()
    same = spec.argv[: len(entrypoint)] == entrypoint
    published = (f"{port.container_port}/{port.protocol}" for port in spec.ports)
    return structs.replace(
        config,
        entrypoint=image.entrypoint if same else None,
        cmd=(spec.argv[len(entrypoint) :] if same else spec.argv) or None,
        workdir="" if spec.cwd == "/" else spec.cwd,
        user=image.user if spec.userns == "keep-id" else spec.user,
        labels=spec.labels,
        exposed_ports=tuple(dict.fromkeys((*image.exposed_ports, *published))),
    )

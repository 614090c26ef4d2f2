"""The image of a new container, pulled where it is missing."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

from sandbox.engine.context import Context
from sandbox.errors import NotFound, SbxError

if TYPE_CHECKING:
    from sandbox.container.channel import Channel
    from sandbox.image.store import Image, Store


def find_image(
    reference: str, context: Context, held: ExitStack, *, pull: str = "never", quiet: bool = False
) -> Image:
    """Return the image that *reference* names; *pull* is always, missing or never.

    Until *held* is closed nobody removes its layers: time to write down that a container uses them.
    It must be closed before anything is forked. Raises NotFound, StoreError.
    """
    from sandbox.image.builtin import BUILTIN, builtin_image

    # Which owners the layers' files have depends on the ids that there are.
    context.enter_storage()
    if reference == BUILTIN:
        return builtin_image(context.paths)
    from sandbox.image.store import Store

    store = Store(context.paths)
    if pull == "always":
        _pull(reference, context, quiet=quiet)
    try:
        return _resolve(store, reference, held)
    except NotFound:
        if pull != "missing":
            raise
    print(f"Unable to find image '{reference}' locally", file=sys.stderr)
    _pull(reference, context, quiet=quiet)
    return _resolve(store, reference, held)


def _resolve(store: Store, reference: str, held: ExitStack) -> Image:
    """Resolve *reference* while the store's content is held; go on holding it on success."""
    with ExitStack() as stack:
        stack.enter_context(store.hold())
        image = store.resolve(reference)
        held.push(stack.pop_all())
    return image


def _pull(reference: str, context: Context, *, quiet: bool) -> None:
    """Pull in a child: the threads of a resolver are no company for the forks that follow."""
    from sandbox.container.channel import Channel, error_from

    ours, theirs = Channel.pair()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        _be_puller(reference, context, theirs, quiet=quiet)
    theirs.close()
    try:
        message, _, _ = ours.receive()
    finally:
        ours.close()
        os.waitpid(child, 0)
    if message is None:
        raise SbxError(f"the pull of {reference} was ended")
    if "error" in message:
        raise error_from(message)


def _be_puller(reference: str, context: Context, channel: Channel, *, quiet: bool) -> NoReturn:
    from sandbox.engine.registry.progress import open_progress
    from sandbox.engine.registry.pull import pull
    from sandbox.image.platform import own_platform
    from sandbox.image.reference import parse_reference
    from sandbox.image.store import Store

    code = 1
    try:
        os.dup2(2, 1)  # progress must not mix with what the container prints
        name = parse_reference(reference)
        with open_progress(quiet=quiet) as progress:
            pull(Store(context.paths), name, own_platform(), context.environ, progress)
        channel.send({"done": True})
        code = 0
    except SbxError as err:
        channel.send_error(err)
    except KeyboardInterrupt:
        code = 130
    except Exception as err:
        channel.send_error(SbxError(f"can't pull {reference}", detail=repr(err)))
    finally:
        sys.stdout.flush()
        os._exit(code)


def inspect_image(reference: str, context: Context) -> dict[str, Any]:
    """Return what `sbx inspect` prints of an image, in docker's shape. Raises NotFound."""
    from sandbox.engine.times import rfc3339

    with ExitStack() as held:
        image = find_image(reference, context, held)
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": list(image.names),
        "Created": rfc3339(image.created),
        "Size": image.size,
        "Os": "linux",
        "Config": {
            "Env": [f"{name}={value}" for name, value in config.env],
            "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
            "Cmd": None if config.cmd is None else list(config.cmd),
            "WorkingDir": config.workdir,
            "User": config.user,
            "Labels": dict(config.labels),
            "ExposedPorts": {port: {} for port in config.exposed_ports},
            "Volumes": {path: {} for path in config.volumes},
            "StopSignal": config.stop_signal,
        },
        "Sbx": {"Lower": list(image.lower), "Hidden": list(image.hidden)},
    }

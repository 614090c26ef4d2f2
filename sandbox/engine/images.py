"""The image of a new container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.engine.context import Context

if TYPE_CHECKING:
    from sandbox.image.store import Image


def find_image(reference: str, context: Context, *, pull: str = "missing") -> Image:
    """Return the image that *reference* names. Raises NotFound."""
    from sandbox.image.store import Store

    # Which owners the layers' files have depends on the ids that there are.
    context.enter_storage()
    return Store(context.paths).resolve(reference)


def inspect_image(reference: str, context: Context) -> dict[str, Any]:
    """Return what `sbx inspect` prints of an image, in docker's shape. Raises NotFound."""
    from sandbox.engine.times import rfc3339

    image = find_image(reference, context, pull="never")
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

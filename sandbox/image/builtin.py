"""The built-in image as an Image: found without the store, as most runs need no more."""

from __future__ import annotations

import os

from sandbox.image.config import ImageConfig
from sandbox.image.host import hidden_paths
from sandbox.image.image import Image
from sandbox.image.platform import own_platform
from sandbox.paths import Paths

BUILTIN = "host"  # the image that is not in the store


def builtin_image(paths: Paths) -> Image:
    """Return the image `host`: this machine's root without what is somebody's."""
    return Image(
        id="",
        names=(BUILTIN,),
        config=ImageConfig(cmd=("/bin/sh",)),
        lower=("/",),
        created=None,
        size=0,
        hidden=hidden_paths(paths, os.environ.get("HOME", "/")),
        builtin=True,
        platform=own_platform(),
    )

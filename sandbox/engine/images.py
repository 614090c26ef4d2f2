"""The image of a new container, pulled first where that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.engine.context import Context

if TYPE_CHECKING:
    from sandbox.image.store import Image


def find_image(reference: str, context: Context, *, pull: str = "never") -> Image:
    """Return the image that *reference* names. Raises NotFound."""
    from sandbox.image.store import Store

    return Store(context.paths).resolve(reference)

"""The images that stages stand on, found or pulled before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from msgspec import Struct

from sandbox.build.errors import BuildError
from sandbox.build.layers import Layer
from sandbox.build.stage_state import KEY_MARK, PATH, StageState
from sandbox.engine.context import Context
from sandbox.engine.images import find_image
from sandbox.errors import NotFound, SbxError
from sandbox.image.config import ImageConfig
from sandbox.image.descriptor import Platform
from sandbox.image.image import Image
from sandbox.image.store import BUILTIN, Store


def scratch_state(platform: Platform) -> StageState:
    """Return the state of `FROM scratch`."""
    return StageState(platform, config=ImageConfig(env=(("PATH", PATH),), workdir="/"))


class Bases(Struct):
    """Images by their references, each looked up once."""

    store: Store
    context: Context
    platform: Platform
    pull: str = "missing"  # or "always"
    quiet: bool = False

    def state_of(self, reference: str) -> StageState:
        """Return the state that a stage on the image begins with. Raises NotFound, BuildError."""
        if reference == BUILTIN:
            raise BuildError(
                f"{BUILTIN} can't be the base of an image",
                detail="it is this machine's own root file system, not an image's layers",
                hint="sbx import ROOTFS.tar NAME makes an image of a root file system",
            )
        image = self._find(reference)
        document = self.store.document(image.digest or reference)
        if (document.platform.os, document.platform.architecture) != (
            self.platform.os,
            self.platform.architecture,
        ):
            raise BuildError(
                f"{reference} is for {document.platform}, and {self.platform} is wanted",
                hint=f"sbx pull --platform {self.platform} {reference}",
            )
        layers = self._layers(image.id, document.diff_ids)
        return StageState(
            document.platform,
            layers,
            document.config,
            {},
            document.history,
            document.author,
            created=document.created,
        )

    def _find(self, reference: str) -> Image:
        # The whole build holds off the removal of layers (`Store.adding`).
        with ExitStack() as held:
            return find_image(reference, self.context, held, pull=self.pull, quiet=self.quiet)

    def _layers(self, image_id: str, diff_ids: Sequence[str]) -> tuple[Layer, ...]:
        descriptors = self.store.manifest(image_id).layers
        return tuple(Layer(*pair) for pair in zip(diff_ids, descriptors, strict=True))

    def imported(self, references: Sequence[str]) -> tuple[dict[str, Layer], list[str]]:
        """Return the steps that the images of --cache-from know, by key; and what was not there."""
        found: dict[str, Layer] = {}
        missing: list[str] = []
        for reference in references:
            try:
                image = self._find(reference)
                document = self.store.document(image.id)
                layers = self._layers(image.id, document.diff_ids)
            except (NotFound, SbxError):
                missing.append(reference)
                continue
            made = [entry for entry in document.history if not entry.get("empty_layer")]
            if len(made) != len(layers):
                continue
            for entry, layer in zip(made, layers, strict=True):
                comment = entry.get("comment")
                if isinstance(comment, str) and comment.startswith(KEY_MARK):
                    found[comment.removeprefix(KEY_MARK)] = layer
        return found, missing

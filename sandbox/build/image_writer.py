"""The target's state as an image of the store."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.build.stage_state import StageState
from sandbox.image.config import ConfigDocument
from sandbox.image.manifest import Manifest
from sandbox.image.reference import Reference
from sandbox.image.store import Store


def document_of(
    state: StageState, labels: Sequence[tuple[str, str]], moment: float
) -> ConfigDocument:
    """Return the configuration document of the image."""
    if labels:
        state = state.with_config(labels=tuple((dict(state.config.labels) | dict(labels)).items()))
    return ConfigDocument(
        state.platform,
        state.config,
        tuple(layer.diff_id for layer in state.layers),
        moment,
        state.author,
        state.history,
    )


def write(
    store: Store, state: StageState, document: ConfigDocument, names: Sequence[Reference]
) -> Manifest:
    """Store the image under *names*; without any it is found by its id. While `adding`."""
    layers = [layer.descriptor for layer in state.layers]
    manifest = store.add_image(document, layers, names[0] if names else None)
    for name in names[1:]:
        store.name(manifest.descriptor, name)
    return manifest

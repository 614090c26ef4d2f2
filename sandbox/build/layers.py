"""The layers of a stage: what they are called, and where they are unpacked."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from sandbox.image.descriptor import Descriptor

# A tar archive without entries: a step that changed nothing needs no layer.
EMPTY_DIFF_ID = "sha256:" + hashlib.sha256(bytes(1024)).hexdigest()


class Layer(Struct, frozen=True):
    """A stored layer."""

    diff_id: str
    descriptor: Descriptor


def chain_id(layers: tuple[Layer, ...]) -> str:
    """Return the digest that stands for the whole stack (OCI config.md, "Layer ChainID")."""
    chain = ""
    for layer in layers:
        text = f"{chain} {layer.diff_id}" if chain else layer.diff_id
        chain = text if not chain else "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return chain

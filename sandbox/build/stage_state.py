"""What a stage has come to: its layers, its configuration, its variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field, structs

from sandbox.build.layers import Layer, chain_id
from sandbox.image.config import ImageConfig, format_time
from sandbox.image.descriptor import Platform

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Usable in RUN without an ARG, and no part of a key: where a proxy is changes no result.
PROXIES = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)


class StageState(Struct, frozen=True):
    """A stage at some instruction. Each instruction gives a new state."""

    platform: Platform
    layers: tuple[Layer, ...] = ()  # the lowest first
    config: ImageConfig = field(default_factory=ImageConfig)
    arguments: Mapping[str, str | None] = field(default_factory=dict)  # ARGs in scope
    history: tuple[dict[str, Any], ...] = ()
    author: str = ""
    cmd_is_own: bool = False  # CMD was set in this stage: ENTRYPOINT leaves it
    created: float | None = None

    @property
    def chain(self) -> str:
        return chain_id(self.layers)

    @property
    def variables(self) -> dict[str, str]:
        """Return what words are expanded with: variables of the image win over arguments."""
        given = {name: value for name, value in self.arguments.items() if value is not None}
        return given | dict(self.config.env)

    def with_config(self, **changes: Any) -> StageState:
        return structs.replace(self, config=structs.replace(self.config, **changes))

    def noted(self, created_by: str, moment: float, layer: Layer | None, key: str) -> StageState:
        """Return the state with one more entry of history and, with *layer*, one more layer."""
        entry: dict[str, Any] = {"created": format_time(moment), "created_by": created_by}
        if key:
            entry["comment"] = f"{KEY_MARK}{key}"
        if layer is None:
            entry["empty_layer"] = True
        layers = self.layers if layer is None else (*self.layers, layer)
        return structs.replace(self, layers=layers, history=(*self.history, entry))


# An image's history names the keys of its steps, so that another machine finds them in there
# (--cache-from).
KEY_MARK = "sbx.step.v1:"

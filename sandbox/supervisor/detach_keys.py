"""Ctrl-P Ctrl-Q: leave the container's terminal without ending it, as in docker."""

from __future__ import annotations

_CTRL_P = b"\x10"
_CTRL_Q = b"\x11"


class DetachKeys:
    """Looks for the sequence in what is typed; a lone Ctrl-P is passed on with the next key."""

    def __init__(self) -> None:
        self._pending = False
        self.detached = False

    def __call__(self, data: bytes) -> bytes | None:
        """Return what goes to the container, or None once the sequence was typed."""
        if self._pending:
            data = _CTRL_P + data
            self._pending = False
        if _CTRL_P + _CTRL_Q in data:
            self.detached = True
            return None
        if data.endswith(_CTRL_P):
            self._pending = True
            return data[:-1]
        return data

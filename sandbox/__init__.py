"""sbx: a rootless container sandbox.

`run` and `Completed` are the Python API; `SbxError` and its subclasses are what it raises.
"""

from __future__ import annotations

# Not from typing: importing that takes as long as the interpreter's own start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.errors import SbxError
    from sandbox.library import Completed, run

__all__ = ["Completed", "SbxError", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded at first use: the `sbx` command imports this package too, and its start is the
    # user's wait.
    if name in ("Completed", "run"):
        from sandbox import library

        return getattr(library, name)
    if name == "SbxError":
        from sandbox.errors import SbxError

        return SbxError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

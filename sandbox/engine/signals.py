"""Signals by name or number, as `kill -l` lists them."""

from __future__ import annotations

import signal

from sandbox.errors import InvalidSpec


def parse_signal(text: str) -> int:
    """Return the number of `TERM`, `SIGTERM`, `15` or `RTMIN+3`. Raises InvalidSpec."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        number = int(name[:4])
    elif name.startswith(("RTMIN", "RTMAX")):
        number = _realtime(name)
    else:
        number = getattr(signal, f"SIG{name}", 0) if name.isalnum() else 0
    if not 1 <= number <= signal.SIGRTMAX:
        raise InvalidSpec(f"invalid signal: {text}", hint="a name or number, as in TERM or 15")
    return int(number)


def _realtime(name: str) -> int:
    """Return the number of `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`; 0 for anything else."""
    base = signal.SIGRTMIN if name.startswith("RTMIN") else signal.SIGRTMAX
    offset = name[5:]
    if not offset:
        return int(base)
    if offset[0] not in "+-" or not (offset[1:].isascii() and offset[1:].isdigit()):
        return 0
    number = base + int(offset[:4])
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0

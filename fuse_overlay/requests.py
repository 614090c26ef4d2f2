"""Who answers which request: our own handlers, and pyfuse3 all others."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from . import protocol
from .answers import Answers
from .content import Content
from .device import Buffer, Device
from .directories import Directories
from .entries import Entries
from .negotiation import Agreement

if TYPE_CHECKING:
    from .session import Session
    from .state import Overlay


def connect(overlay: Overlay, session: Session) -> Device:
    """A device that is ready to serve an overlay."""
    config = overlay.config
    agreed = Agreement(live=config.live_lower, read_only=config.upper is None)
    buffer = Buffer()
    answers = Answers(overlay)

    def by_pyfuse3(node_id: int, size: int) -> bytes | None:
        answer = session.ask(buffer.view[:size])
        return None if answer is None else _unwrap(answer)

    def init(node_id: int, size: int) -> bytes:
        request = bytes(buffer.view[:size])
        answer = session.ask(agreed.for_pyfuse3(request))
        if answer is None:
            raise RuntimeError("pyfuse3 has not answered FUSE_INIT")
        _unwrap(answer)
        settled = agreed.settle(request, answer)
        overlay.table.untold_opens = agreed.untold_opens
        return settled

    device = Device(session.device, buffer, by_pyfuse3)
    device.may_retry = lambda: overlay.quota is not None and bool(overlay.table.leaving)
    device.handle(Entries(overlay, buffer, answers, agreed).handlers())
    device.handle(Content(overlay, buffer, agreed, device.fd).handlers())
    device.handle(Directories(overlay, buffer, answers, agreed).handlers())
    device.handle({protocol.INIT: init, protocol.INTERRUPT: _never, protocol.IOCTL: _no_ioctl})
    return device


def _unwrap(answer: bytes) -> bytes:
    """The answer of pyfuse3 without its header."""
    _, code, _ = protocol.OUT_HEADER.unpack_from(answer)
    if code:
        raise OSError(-code, "said by pyfuse3")
    return answer[protocol.OUT_HEADER.size :]


def _never(node_id: int, size: int) -> int:
    """ENOSYS to FUSE_INTERRUPT: no request is long, and the kernel does not ask again."""
    return errno.ENOSYS


def _no_ioctl(node_id: int, size: int) -> int:
    """ENOTTY: Python asks of each file that it opens whether it is a terminal."""
    return errno.ENOTTY

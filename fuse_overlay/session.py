"""pyfuse3's session. Between it and the kernel stands our own loop (`device`).

pyfuse3 mounts, agrees with the kernel on what both can, and answers the requests that are handed
to it. Its C module imports trio at its top (0.1 s) and drives the session through five of trio's
names; it waits for nothing here, so a stand-in with those names takes trio's place. When pyfuse3
asks trio to wait for the session's descriptor, its loop stands still, and goes on for one request
when that is there.

Requests reach it through a pair of sockets, of which one end is put under the session's descriptor:
each is a packet, as on /dev/fuse, and the packet that comes back is the answer.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import ModuleType
from typing import Any

_READY: Iterator[None] = iter(())
_LARGEST = 1 << 17  # more than any answer that pyfuse3 gives here: lists of xattrs, 64 KiB


class _Done:
    """An awaitable that is done."""

    def __await__(self) -> Iterator[None]:
        return _READY


_DONE = _Done()


class _Lock:
    """trio.Lock for a single task."""

    def __aenter__(self) -> _Done:
        return _DONE

    def __aexit__(self, *_: object) -> _Done:
        return _DONE


class _Nursery:
    """trio.open_nursery() for tasks that run one after the other, when the block ends."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Callable[..., Awaitable[None]], tuple[object, ...]]] = []

    def start_soon(
        self, task: Callable[..., Awaitable[None]], *args: object, name: str | None = None
    ) -> None:
        self._tasks.append((task, args))

    async def __aenter__(self) -> _Nursery:
        return self

    async def __aexit__(self, *error: object) -> None:
        while self._tasks:
            task, args = self._tasks.pop()
            await task(*args)


class _Task:
    name = "fuse"


class ClosedResourceError(Exception):
    """As trio's; never raised here."""


class _wait_readable:
    """Stand still until the next request; the session's descriptor is told to whoever waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __await__(self) -> Iterator[int]:
        yield self._fd


def _stand_in() -> ModuleType:
    trio = ModuleType("trio", "What pyfuse3 uses of trio, for one task that is driven by hand.")
    lowlevel = ModuleType("trio.lowlevel")
    names: dict[str, Any] = {
        "Lock": _Lock,
        "open_nursery": _Nursery,
        "ClosedResourceError": ClosedResourceError,
        "lowlevel": lowlevel,
    }
    low_names: dict[str, Any] = {
        "current_task": _Task,
        "current_trio_token": lambda: None,
        "wait_readable": _wait_readable,
        "notify_closing": lambda fd: None,
    }
    trio.__dict__.update(names)
    lowlevel.__dict__.update(low_names)
    return trio


def _version(name: str) -> str:
    raise LookupError(name)


def _metadata() -> ModuleType:
    """What pyfuse3 uses of importlib.metadata, to say its version: a tenth of the import time."""
    metadata = ModuleType("importlib.metadata")
    metadata.__dict__.update(version=_version, PackageNotFoundError=LookupError)
    return metadata


def import_pyfuse3() -> Any:
    """pyfuse3, with the stand-ins; the real modules stay importable for others.

    If it has been imported already, only its own reference to trio is replaced, as
    ``pyfuse3.asyncio`` does.
    """
    trio = _stand_in()
    pyfuse3 = sys.modules.get("pyfuse3")
    if pyfuse3 is None:
        hidden = {"trio": sys.modules.get("trio")}
        sys.modules["trio"] = trio
        if "importlib.metadata" not in sys.modules:
            hidden["importlib.metadata"] = None
            sys.modules["importlib.metadata"] = _metadata()
        try:
            pyfuse3 = importlib.import_module("pyfuse3")
        finally:
            for name, real in hidden.items():
                if real is not None:
                    sys.modules[name] = real
                else:
                    del sys.modules[name]
    pyfuse3.__dict__["trio"] = trio
    return pyfuse3


class Session:
    """A session of pyfuse3 that gets its requests from us. `pyfuse3.init` has been called."""

    def __init__(self, pyfuse3: Any) -> None:
        self._main: Coroutine[int, None, None] = pyfuse3.main(min_tasks=1, max_tasks=1)
        self._fd = self._main.send(None)
        self.device = os.dup(self._fd)
        """/dev/fuse itself."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        os.dup2(theirs.fileno(), self._fd, inheritable=False)
        theirs.close()

    def ask(self, request: bytes | memoryview) -> bytes | None:
        """Let pyfuse3 answer a request; the answer with its header, None if there is none."""
        self._ours.send(request)
        try:
            self._main.send(None)
        except StopIteration:
            raise RuntimeError("pyfuse3 has ended its session") from None
        try:
            return self._ours.recv(_LARGEST)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Give the session its descriptor back, so that pyfuse3 can unmount."""
        os.dup2(self.device, self._fd, inheritable=False)
        os.close(self.device)
        self._ours.close()
        self._main.close()

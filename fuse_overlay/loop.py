"""pyfuse3 without trio: one blocking loop in a process of its own.

pyfuse3's C module imports trio at its top (0.1 s) and drives its session through five of trio's
names. A server that answers one request after the other needs none of trio's waiting: reading
/dev/fuse blocks in the system call. So a stand-in with those names takes trio's place while
pyfuse3 is imported; if that has happened already, only pyfuse3's own reference is replaced, as
``pyfuse3.asyncio`` does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import ModuleType
from typing import Any

_READY: Iterator[None] = iter(())


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


def _wait_readable(fd: int) -> _Done:
    """Nothing to wait for: the read(2) that follows blocks."""
    return _DONE


async def _readable() -> bool:
    """What pyfuse3 awaits before each read: there may be a request."""
    return True


def _stand_in() -> ModuleType:
    trio = ModuleType("trio", "What pyfuse3 uses of trio, for one blocking task.")
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
    """pyfuse3, with the stand-ins; the real modules stay importable for others."""
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
    # Not to be waited for either: saves a lock and three awaits a request.
    pyfuse3.__dict__["_wait_fuse_readable"] = _readable
    return pyfuse3


def run(pyfuse3: Any) -> None:
    """Answer requests until the file system is unmounted."""
    main: Generator[None, None, None] = pyfuse3.main(min_tasks=1, max_tasks=1)
    try:
        main.send(None)
    except StopIteration:
        return
    raise RuntimeError("pyfuse3 waited for something that the blocking loop does not have")

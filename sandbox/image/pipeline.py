"""What a stream of chunks passes through, and reading it in a thread.

Hashing, (un)packing and writing release the interpreter, so one thread beside the one that makes
files keeps two processors busy. More threads were slower: each chunk then waits for the interpreter
several times. The thread starts only after all namespaces were entered: unshare(CLONE_NEWUSER)
needs a process without any.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

_DEPTH = 4  # chunks that wait


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def hashed(chunks: Iterator[bytes], into: _Hash) -> Iterator[bytes]:
    """Pass *chunks* on, adding them to the hash *into*."""
    return teed(chunks, into.update)


def teed(chunks: Iterator[bytes], consume: Callable[[bytes], None]) -> Iterator[bytes]:
    """Pass *chunks* on after *consume* got them."""
    for chunk in chunks:
        consume(chunk)
        yield chunk


@contextmanager
def read_ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Give *chunks*, taken from their source by a thread a few chunks ahead."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_DEPTH)
    stopped = threading.Event()

    def fetch() -> None:
        last: BaseException | None = None
        try:
            for chunk in chunks:
                if stopped.is_set():
                    return
                ready.put(chunk)
        except BaseException as err:
            last = err
        ready.put(last)

    def give() -> Iterator[bytes]:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        yield give()
    finally:
        stopped.set()
        while thread.is_alive():
            # Make room for a put that waits.
            try:
                ready.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()

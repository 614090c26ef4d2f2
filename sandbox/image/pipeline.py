"""Work beside the reading of a stream: hashing, (un)packing and writing release the interpreter.

Each piece is a thread with a short queue, so memory stays bounded and the slowest piece sets the
pace. Threads start only after all namespaces were entered: unshare(CLONE_NEWUSER) needs a process
without any.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DEPTH = 8  # chunks of up to 1 MiB


class Sink:
    """Calls *consume* for every chunk, in a thread."""

    def __init__(self, consume: Callable[[bytes], None]) -> None:
        self._consume = consume
        self._queue: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(chunk)

    def tee(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass *chunks* on, and to the thread."""
        for chunk in chunks:
            self.put(chunk)
            yield chunk

    def finish(self) -> None:
        """Wait until all is consumed. Raises what *consume* raised."""
        self._end()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._consume(chunk)
                except BaseException as err:
                    self._error = err


@contextmanager
def sink(consume: Callable[[bytes], None]) -> Iterator[Sink]:
    """Give a Sink whose thread ends with the block, whatever happens there."""
    made = Sink(consume)
    try:
        yield made
    finally:
        made._end()


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

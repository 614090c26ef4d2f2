"""An event loop for one piece of work in a command that has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


def run_trio(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in a loop of its own; of a group of errors the first is raised."""
    try:
        return trio.run(function)
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that stopped the others."""
    for error in group.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, trio.Cancelled):
            return found
    return group.exceptions[0]

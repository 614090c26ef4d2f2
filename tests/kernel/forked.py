"""Something that can't be undone (a seccomp filter, a Landlock domain, another uid) in a child."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any


def forked(function: Callable[[], Any]) -> Any:
    """Return what *function* returns in a forked child, as JSON gives it back.

    Raises AssertionError with the child's traceback, or with the signal that ended it.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _report(function, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise AssertionError(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    result, failure = json.loads(answer)
    if failure:
        raise AssertionError(failure)
    return result


def _report(function: Callable[[], Any], writing: int) -> None:
    try:
        answer = json.dumps([function(), None])
    except BaseException:
        answer = json.dumps([None, traceback.format_exc()])
    os.write(writing, answer.encode())
    os._exit(0)


def errno_of(function: Callable[[], Any]) -> int:
    """Return the errno with which *function* fails, 0 when it doesn't."""
    try:
        function()
    except OSError as err:
        return err.errno or -1
    return 0

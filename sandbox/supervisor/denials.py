"""`--explain`: what seccomp denies, with the program and the rule, while it happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import trio
from msgspec import structs

from sandbox.linux import seccomp_notify
from sandbox.linux.seccomp_explain import Explanation
from sandbox.state import Denial

Explain = Callable[[seccomp_notify.Notification], Explanation]

# A hostile program may ask for the impossible in many ways: remember this many.
_MAX_KINDS = 500


class DenialRecorder:
    """Answers a filter's notifications with the errno that the filter would have given."""

    def __init__(self, listener: int, explain: Explain) -> None:
        self._listener = listener
        self._explain = explain
        self._seen: dict[tuple[str, str, str], Denial] = {}

    async def serve(self) -> None:
        """Answer until every process below the filter is gone."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._listener)
                if not self._answer():
                    return
        finally:
            os.close(self._listener)

    def _answer(self) -> bool:
        """Answer one notification; False when nobody is left to notify."""
        if not seccomp_notify.wait_readable(self._listener, 0):
            return False
        try:
            notification = seccomp_notify.receive(self._listener)
        except OSError:
            return True  # the caller was killed meanwhile
        explanation = self._explain(notification)
        self._remember(explanation)
        seccomp_notify.deny(self._listener, notification, explanation.errno)
        return True

    def _remember(self, explanation: Explanation) -> None:
        syscall, program, rule = explanation.syscall, explanation.program, explanation.rule
        key = (syscall, program, rule)
        known = self._seen.get(key)
        if known is not None:
            self._seen[key] = structs.replace(known, count=known.count + 1)
        elif len(self._seen) < _MAX_KINDS:
            self._seen[key] = Denial(syscall, program, rule)
            # ENOSYS is no news: libc asks for clone3 whenever it starts a thread.
            if not explanation.fallback:
                print(f"sbx: denied {syscall} by {program}: {rule}\r", file=sys.stderr)

    def summary(self) -> tuple[Denial, ...]:
        return tuple(self._seen.values())

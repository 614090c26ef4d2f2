"""A child that is killed after a while, wherever it is then."""

from __future__ import annotations

import contextlib
import os
import signal
import threading


def wait_or_kill(child: int, seconds: float) -> None:
    """Wait for *child*; kill it when it is still there after so many seconds."""
    pidfd = os.pidfd_open(child)  # its number may be another's as soon as it is reaped

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    os.waitpid(child, 0)
    timer.cancel()
    timer.join()
    os.close(pidfd)

"""The guard: pid 1 of the pid namespace around the container's own, and the overlay server.

When the supervisor dies, however it dies, the kernel kills the guard (PR_SET_PDEATHSIG); when the
first process of a pid namespace dies, the kernel kills all processes in it and below it
(pid_namespaces(7)). So nothing of a container outlives its supervisor, and neither a program
inside nor a signal can prevent it: the container's processes can't see the guard.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from fuse_overlay.config import Config
from sandbox.linux.descriptors import close_all_but, null_streams
from sandbox.linux.processes import exited
from sandbox.linux.syscalls import PR_SET_PDEATHSIG, prctl, set_name

# A container whose overlay is gone while it runs (somebody cut the connection) ends after this.
_LAST_SECONDS = 1.0


def run(config: Config | None, endpoint: socket.socket, supervisor: int) -> NoReturn:
    """Be the guard, in a process just forked; never returns.

    With a *config*, wait on *endpoint* for the FUSE descriptor and serve the overlay; without one
    (the kernel's overlay) just live. The end of *endpoint* is the guard's. *supervisor* is a pidfd
    of the supervisor.
    """
    code = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if exited(supervisor):
            os._exit(1)  # it died before the line above
        _detach(endpoint)
        if config is not None:
            from fuse_overlay import server

            server.preload()
            _, fds, _, _ = socket.recv_fds(endpoint, 16, 1)
            if fds:
                server.serve(config, fds[0])
                # The kernel is taking the container's namespaces apart, and would wait for the end
                # of a process that is in its way on another processor.
                endpoint.settimeout(_LAST_SECONDS)
        endpoint.recv(1)
        code = 0
    finally:
        os._exit(code)


def _detach(endpoint: socket.socket) -> None:
    """Keep nothing of the user's terminal, files and session.

    Standard error neither: who reads a detached container's id from a pipe waits for its end.
    """
    os.setsid()
    os.chdir("/")
    null_streams()
    close_all_but((0, 1, 2, endpoint.fileno()))
    # Children of processes that end in this namespace come to its pid 1.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    set_name("sbx-overlay")

"""The overlay server: serves one mount until it is unmounted.

Whoever makes the mount opens /dev/fuse in the user namespace that shall own it, mounts with
`mount_options` and hands the descriptor to the server, which may live in another namespace: ids in
requests are those of the mount's namespace and are kept as such in the server's.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .config import Config

__all__ = ["Config", "mount_options", "preload", "serve", "serve_at"]


def mount_options(fd: int, uid: int = 0, gid: int = 0) -> str:
    """The data of mount(2) for type "fuse" (fuse.rst, "Mount options")."""
    return f"fd={fd},rootmode=40000,user_id={uid},group_id={gid},allow_other,default_permissions"


def preload() -> None:
    """Import all that serving needs, so that a process forked later starts at once."""
    from . import session

    session.import_pyfuse3()
    from . import operations, requests, state  # noqa: F401


def serve(config: Config, fuse_fd: int, *, ready: Callable[[], None] | None = None) -> None:
    """Answer the requests that arrive on *fuse_fd* until the file system is unmounted.

    The process is the server's: its working directory, umask and limit of descriptors change, and
    it must have no other threads. Raises OSError or ValueError if a layer cannot be used.
    """
    # libfuse takes a descriptor that is mounted already by this name (fuse_session_mount).
    _run(config, f"/dev/fd/{fuse_fd}", set(), ready, unmount=False)


def serve_at(
    config: Config, mountpoint: str, options: set[str], *, ready: Callable[[], None] | None = None
) -> None:
    """The same, with libfuse making the mount (by fusermount3 if need be)."""
    _run(config, mountpoint, options, ready, unmount=True)


def _run(
    config: Config,
    where: str,
    options: set[str],
    ready: Callable[[], None] | None,
    *,
    unmount: bool,
) -> None:
    from . import session

    pyfuse3 = session.import_pyfuse3()
    from . import syscalls
    from .operations import Operations
    from .requests import connect
    from .state import Overlay

    os.umask(0)
    _raise_descriptor_limit()
    overlay = Overlay(config)
    pyfuse3.init(Operations(overlay), where, options)
    _calm_collector()
    syscalls.keep_freed_memory()
    try:
        link = session.Session(pyfuse3)
        try:
            device = connect(overlay, link)
            if ready is not None:
                ready()
            device.serve()
        finally:
            link.close()
    finally:
        pyfuse3.close(unmount=unmount)


def _calm_collector() -> None:
    """Nodes are freed by FORGET, not as cycles: looking through them all again is in vain."""
    import gc

    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _raise_descriptor_limit() -> None:
    """Open files of programs are descriptors here."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

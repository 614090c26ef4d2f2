"""A child that is root in a user namespace of its own, with the caller's id as the only one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.linux.syscalls import CLONE_NEWUSER, unshare
from tests.kernel.forked import forked


def as_root(function: Callable[[], Any]) -> Any:
    """Return what *function* returns as uid 0 of a new user namespace (user_namespaces(7))."""

    def mapped() -> Any:
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        return function()

    return forked(mapped)

"""Where sbx keeps things (XDG Base Directory Specification 0.8).

Data (images, containers, volumes) survives a reboot; the runtime directory (sockets, pids, locks)
does not. Nothing else in sbx spells these paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sandbox.errors import Unavailable


class Paths(Struct, frozen=True):
    """The directories of one user."""

    data: Path
    runtime: Path
    config: Path
    cache: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], uid: int) -> Paths:
        """Return the directories that *environ* names for *uid* (the user's id on the host)."""
        home = Path(environ.get("HOME") or "/")

        def xdg(variable: str, default: str) -> Path:
            value = environ.get(variable, "")
            # "All paths must be absolute. If an implementation encounters a relative path […] it
            # should consider the path invalid and ignore it."
            return (Path(value) if value.startswith("/") else home / default) / "sbx"

        runtime = environ.get("XDG_RUNTIME_DIR", "")
        return cls(
            data=xdg("XDG_DATA_HOME", ".local/share"),
            runtime=Path(runtime) / "sbx" if runtime.startswith("/") else Path(f"/tmp/sbx-{uid}"),
            config=xdg("XDG_CONFIG_HOME", ".config"),
            cache=xdg("XDG_CACHE_HOME", ".cache"),
        )

    @property
    def launcher_socket(self) -> Path:
        return self.runtime / "launcher.sock"

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    @property
    def storage(self) -> Path:
        """The image store: an OCI image layout and the unpacked layers beside it."""
        return self.data / "storage"

    @property
    def volumes(self) -> Path:
        return self.data / "volumes"

    @property
    def profiles(self) -> Path:
        return self.config / "profiles"

    @property
    def filters(self) -> Path:
        """Compiled seccomp programs, by content."""
        return self.cache / "seccomp"


def make_private(directory: Path) -> Path:
    """Create *directory* with mode 0700 and return it.

    Raises Unavailable when it belongs to somebody else: below /tmp anyone may have made it first.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise Unavailable(
            f"{directory} is not a directory of this user",
            hint="set XDG_RUNTIME_DIR to a directory that only you can write",
        )
    if status.st_mode & 0o077:
        os.chmod(directory, 0o700)
    return directory

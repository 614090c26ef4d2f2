"""How a caller reaches the process that carries out a command: the launcher's address, the request.

For the client and for the Python API; standard library only, as the client's start is the user's
wait.
"""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def launcher_key() -> str:
    """Return what client and launcher must have in common, as a file name.

    The user, the namespaces, the cgroup, the security label and the installed version: a process
    forked from a launcher with the same key is in all respects as one forked from the client.
    """
    import zlib

    from sandbox import __version__

    parts = [__version__, __file__, str(os.stat(__file__).st_mtime_ns), str(os.getuid())]
    for name in ("user", "mnt", "pid_for_children", "net", "ipc", "uts", "cgroup"):
        try:
            parts.append(os.readlink(f"/proc/self/ns/{name}"))
        except OSError:
            parts.append("")
    for path in ("/proc/self/cgroup", "/proc/self/attr/current"):
        try:
            with open(path, "rb") as file:
                parts.append(file.read().decode(errors="replace"))
        except OSError:
            parts.append("")
    return f"{zlib.crc32(chr(0).join(parts).encode()):08x}"


def runtime_directory() -> str:
    """Return sbx's runtime directory (the same as `Paths.runtime`, without importing pathlib)."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/sbx" if base.startswith("/") else f"/tmp/sbx-{os.getuid()}"


def limits() -> dict[str, list[int]]:
    """Return the resource limits that a container inherits from its client (getrlimit(2))."""
    import resource

    names = ("NOFILE", "CORE", "FSIZE", "STACK", "AS", "DATA", "CPU", "MEMLOCK")
    return {name: list(resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))) for name in names}


def request() -> dict[str, Any]:
    """Return what a command process needs to know of us."""
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "argv": sys.argv[1:],
        "environ": {k: v for k, v in os.environ.items() if "\0" not in v},
        "umask": umask,
        "limits": limits(),
    }


def connect(key: str) -> _socket.socket | None:
    """Return a connection to the launcher with this key, None when there is none."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(f"{runtime_directory()}/launcher-{key}.sock")
        if peer_uid(connection) == os.getuid():
            return connection
    except OSError:
        pass
    connection.close()
    return None


def peer_uid(connection: _socket.socket) -> int:
    """Return who is at the other end (SO_PEERCRED, unix(7)), as an id of this namespace.

    In /tmp anybody may have been there first, and would get our environment and descriptors.
    """
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)

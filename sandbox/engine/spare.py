"""Spare containers: made by the launcher before anybody asks, as the last ones were.

Starting a container takes tens of milliseconds of namespaces, mounts and (for a private network)
waiting, none of which depends on the command. So the launcher has a container ready like those that
were run lately: set up by the same code, with its init waiting for the word to go, and never used
twice. Who runs `sbx run` hands the client's connection over to it; the spare's own process, that
has been the supervisor from the start, then goes on as any other. If there is none, or it does not
fit to the letter, the container is made the usual way.

    supervisor → launcher     what was run (`wish`): the spec, the limits, the environment
    launcher   → spare        a fork that prepares such a container and waits (`Spare`)
    command    → spare        a spec, with the client's connection and streams (`hand_over`)
    spare      → command      {"taken": true}, or end of file: then it is not used
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

from msgspec import Struct

from sandbox import call, wire
from sandbox.engine.context import Context
from sandbox.spec import ContainerSpec, from_json, to_json

_DELAY = 0.03  # seconds
_REMEMBERED = 16
_MOST_SPARES = 2
_ADOPTION_SECONDS = 10.0
# What the last word to a prepared init carries goes in one message (`container.channel`).
_MOST_BYTES = 48 << 10
# Of a spec, what an assignment or the supervisor alone makes good …
_LATE = frozenset(
    (
        *("id", "name", "image", "argv", "created", "env", "cwd", "user", "hostname", "detach"),
        *("labels", "stop_signal", "stop_timeout", "log_max_size", "log_max_files"),
    )
)
_SUPERVISED = frozenset(("timeout", "output"))  # … and of its limits.
_SURROUNDINGS = ("HOME", "DBUS_SESSION_BUS_ADDRESS")

# Where the processes that a launcher forks tell it what they ran.
wishes: socket.socket | None = None


class Wish(Struct, frozen=True):
    """What a spare is to be like."""

    key: str  # equal for containers that differ in what an assignment can make good, and no more
    spec: ContainerSpec
    limits: dict[str, list[int]]  # getrlimit(2) of the client
    environ: dict[str, str]

    def to_bytes(self) -> bytes:
        return json.dumps(
            {
                "key": self.key,
                "spec": to_json(self.spec),
                "limits": self.limits,
                "environ": self.environ,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Wish:
        value = json.loads(data)
        spec = from_json(ContainerSpec, value["spec"])
        return cls(value["key"], spec, value["limits"], value["environ"])


def _wish(spec: ContainerSpec, context: Context) -> Wish | None:
    """Return what *spec* would want to find ready; None when it is none for a spare."""
    if context.debug or context.environ.get("SBX_SPARE") == "off":
        return None
    # What only its client can give, or what is looked up on the host at the moment of the start.
    if spec.tty or spec.ports or spec.devices or any(m.type != "tmpfs" for m in spec.mounts):
        return None
    limits = call.limits()
    environ = {
        name: value
        for name, value in context.environ.items()
        if name.startswith("XDG_") or name in _SURROUNDINGS
    }
    content = json.dumps([_common(spec), limits, environ, str(context.paths)], sort_keys=True)
    if len(json.dumps(to_json(spec))) > _MOST_BYTES:
        return None
    return Wish(hashlib.sha256(content.encode()).hexdigest()[:16], spec, limits, environ)


def _common(spec: ContainerSpec) -> dict[str, Any]:
    """Return what of *spec* is settled when its container is set up, before its command."""
    value: dict[str, Any] = to_json(spec)
    value["limits"] = {k: v for k, v in value["limits"].items() if k not in _SUPERVISED}
    return {name: item for name, item in value.items() if name not in _LATE}


def wish(spec: ContainerSpec, context: Context) -> None:
    """Tell the launcher, if we come from one, that containers like this one are wanted."""
    if wishes is None:
        return
    wanted = _wish(spec, context)
    if wanted is not None:
        with suppress(OSError):
            wishes.send(wanted.to_bytes(), socket.MSG_DONTWAIT)


class SpareMaker:
    """The launcher's part: hears what was run, and says when to make which spare.

    One is made when the same was run twice, one for each kind, and a moment after the container
    that it is like has begun to run, so as not to slow that one down.
    """

    def __init__(self, runtime: str) -> None:
        global wishes
        self._runtime = runtime
        self._ours, wishes = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard: deque[str] = deque(maxlen=_REMEMBERED)
        self._due: list[tuple[float, Wish]] = []
        self._made: list[str] = []  # keys, the oldest first

    def fileno(self) -> int:
        """Readable when there is something to `hear`."""
        return self._ours.fileno()

    def close(self) -> None:
        self._ours.close()

    def hear(self) -> None:
        """Receive what was just run."""
        wish = Wish.from_bytes(self._ours.recv(4 * _MOST_BYTES))
        if wish.key in self._heard and all(wish.key != due.key for _, due in self._due):
            self._due.append((time.monotonic() + _DELAY, wish))
        self._heard.append(wish.key)

    def due_in(self) -> float:
        """Return the seconds until `due` has an answer; much when nothing is on its way."""
        return max(self._due[0][0] - time.monotonic(), 0.0) if self._due else math.inf

    def due(self) -> Wish | None:
        """Return what a process is to be forked for now."""
        if self.due_in() > 0:
            return None
        _, wish = self._due.pop(0)
        if os.path.exists(address(self._runtime, wish.key)):
            return None
        self._made = [*(key for key in self._made if key != wish.key), wish.key]
        if len(self._made) > _MOST_SPARES:
            dismiss(address(self._runtime, self._made.pop(0)))
        return wish


def address(runtime: str | os.PathLike[str], key: str) -> str:
    """Return the socket of the spare for *key*."""
    return f"{os.fspath(runtime)}/spare-{key}"


def dismiss(path: str) -> None:
    """End the spare that listens on *path*: it takes whoever comes first, and one who says nothing
    wants nothing. No signal, which might reach it when it is somebody's container already."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(path)


def hand_over(spec: ContainerSpec, context: Context) -> bool:
    """Give the client to a spare that fits *spec*; False when there is none.

    When it is done, this process has nothing more to do with the client, and the container is on
    disk: what keeps its layers in place can be let go.
    """
    link = context.link
    wanted = _wish(spec, context) if wishes is not None and link is not None else None
    if wanted is None or link is None:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        path = address(context.paths.runtime, wanted.key)
        try:
            connection.connect(path)
        except ConnectionRefusedError:
            with suppress(OSError):
                os.unlink(path)  # of one that was killed
            return False
        except OSError:
            return False
        if call.peer_uid(connection) != os.getuid():
            return False
        # From here on the spare reads what the client says.
        client = link.take_over()
        try:
            wire.send(connection, _request(spec, context), (client.fileno(), 0, 1, 2))
            taken = bool(wire.receive(connection).get("taken"))
        except (OSError, wire.Disconnected):
            taken = False
        if taken:
            connection.settimeout(_ADOPTION_SECONDS)
            with suppress(OSError):
                connection.recv(1)  # the end of file: the container is on disk
    if taken:
        link.handed_over = True
    else:
        link.relay_signals()
    return taken


def _request(spec: ContainerSpec, context: Context) -> dict[str, Any]:
    collect = isinstance(sys.stderr, io.StringIO)
    return {
        "spec": to_json(spec),
        "environ": dict(context.environ),
        "collect": collect,
        "messages": sys.stderr.getvalue() if isinstance(sys.stderr, io.StringIO) else "",
    }

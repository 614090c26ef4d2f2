"""What commands do to existing containers, through their supervisors."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from msgspec import structs

from sandbox import call
from sandbox.engine.context import Context
from sandbox.engine.exec_ import ExecOptions, exec_
from sandbox.engine.live import changed
from sandbox.engine.reconcile import reconcile as _reconcile
from sandbox.engine.removal import discard
from sandbox.engine.run import run
from sandbox.errors import Conflict, SbxError
from sandbox.spec import from_json
from sandbox.state import Container, Containers, Denial

__all__ = [
    "ExecOptions",
    "exec_",
    "kill",
    "open_containers",
    "pause",
    "processes",
    "remove",
    "run",
    "stop",
    "unpause",
    "update",
    "usage",
    "wait",
    "with_denials",
]


def open_containers(context: Context) -> Containers:
    """Return the user's containers, with the state on disk made true first."""
    containers = Containers(context.paths)
    _reconcile(containers)
    return containers


def kill(container: Container, number: int, context: Context) -> None:
    """Send a signal to the container's pid 1. Raises Conflict when it does not run."""
    if not container.running:
        raise Conflict(f"container {container.spec.name} is not running")
    if ask(container, {"signal": number}, context) is None and number == signal.SIGKILL:
        # A supervisor that does not answer (stopped, stuck) takes its container with it.
        supervisor = container.status.supervisor
        assert supervisor is not None
        supervisor.kill()
    if number == signal.SIGKILL:
        ask(container, {"wait": True}, context)


def with_denials(container: Container, context: Context) -> Container:
    """Return *container* with the denials counted so far, which are on disk only at its end."""
    if not container.running or not container.spec.security.explain:
        return container
    answer = ask(container, {"denials": True}, context) or {}
    try:
        denials = tuple(from_json(Denial, denial) for denial in answer.get("denials", ()))
    except (TypeError, ValueError):
        return container
    status = structs.replace(container.status, denials=denials)
    return structs.replace(container, status=status)


def stop(
    container: Container, context: Context, timeout: float | None = None, number: int | None = None
) -> None:
    """Send the stop signal, and SIGKILL *timeout* seconds later; return when it has ended.

    A container that does not run is left as it is, without complaint, as in docker.
    """
    if not container.running:
        return
    if container.status.paused:
        unpause(container, context)  # it may end by itself only if it can hear
    spec = container.spec
    wanted = {
        "signal": spec.stop_signal if number is None else number,
        "timeout": spec.stop_timeout if timeout is None else timeout,
    }
    if ask(container, {"stop": wanted}, context) is None and container.status.supervisor:
        container.status.supervisor.kill()
        container.status.supervisor.wait(10)


def wait(container: Container, context: Context) -> int:
    """Wait until the container has ended; return its exit code."""
    if container.running:
        answer = ask(container, {"wait": True}, context)
        if answer is not None and "exit_code" in answer:
            return int(answer["exit_code"])
        assert container.status.supervisor is not None
        container.status.supervisor.wait()
    status = Containers(context.paths).read_status(container.directory)
    if status.exit_code is None:
        return 0 if status.phase == "created" else 255
    return status.exit_code


def remove(container: Container, context: Context, *, force: bool = False) -> None:
    """Remove the container. Raises Conflict when it runs and *force* is not given."""
    if container.running:
        if not force:
            raise Conflict(
                f"container {container.spec.name} is running",
                hint=f"sbx stop {container.spec.name}, or sbx rm --force {container.spec.name}",
            )
        kill(container, signal.SIGKILL, context)
    supervisor = container.status.supervisor
    if supervisor is not None and container.spec.remove:
        supervisor.wait(5)
    context.enter_storage()
    discard(Containers(context.paths), container.directory, container.spec)


def pause(container: Container, context: Context) -> None:
    """Stop all processes of the container for a while. Raises Conflict, SbxError."""
    _must_run(container)
    if container.status.paused:
        raise Conflict(f"container {container.spec.name} is already paused")
    demand(container, {"pause": True}, context)


def unpause(container: Container, context: Context) -> None:
    """Let a paused container go on. Raises Conflict, SbxError."""
    _must_run(container)
    if not container.status.paused:
        raise Conflict(f"container {container.spec.name} is not paused")
    demand(container, {"unpause": True}, context)


def update(container: Container, changes: dict[str, Any], context: Context) -> None:
    """Change limits (names of `Limits`), of a running container at once.

    Raises InvalidSpec, and SbxError where they can't be enforced.
    """
    if container.running:
        demand(container, {"update": changes}, context)
        return
    containers = Containers(context.paths)
    with containers.lock(shared=False):
        spec = containers.load(container.spec.id).spec
        limits = changed(spec.limits, changes)
        containers.write_spec(container.directory, structs.replace(spec, limits=limits))


def processes(container: Container, context: Context) -> list[int]:
    """Return the pids of the container's processes, as the host sees them."""
    _must_run(container)
    return [int(pid) for pid in demand(container, {"processes": True}, context)["processes"]]


def usage(container: Container, context: Context) -> dict[str, Any] | None:
    """Return what `engine.usage` found; None for a container that has ended meanwhile."""
    return ask(container, {"usage": True}, context)


def _must_run(container: Container) -> None:
    if not container.running:
        raise Conflict(f"container {container.spec.name} is not running")


def demand(container: Container, request: dict[str, Any], context: Context) -> dict[str, Any]:
    """As `ask`. Raises SbxError when it was not done."""
    answer = ask(container, request, context)
    if answer is None:
        raise SbxError(
            f"the supervisor of container {container.spec.name} does not answer",
            hint="has the container ended? sbx ps -a",
        )
    if "error" in answer:
        raise SbxError(str(answer["error"]), detail=answer.get("detail"), hint=answer.get("hint"))
    return answer


def connect(connection: socket.socket, path: Path) -> None:
    """Connect to a supervisor. Raises OSError, also when the listener is somebody else's: the
    runtime directory may be below /tmp, where anybody can have been first."""
    connection.connect(os.fspath(path))
    if call.peer_uid(connection) != os.getuid():
        raise PermissionError(errno.EACCES, "the socket belongs to another user", os.fspath(path))


def socket_of(container: Container, context: Context) -> Path:
    """Return the control socket of the container's supervisor."""
    return context.paths.runtime / f"c-{container.spec.id[:24]}"


def ask(container: Container, request: dict[str, Any], context: Context) -> dict[str, Any] | None:
    """Send a request to the supervisor; None when it does not answer."""
    path = socket_of(container, context)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connect(connection, path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError:
            return None
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None

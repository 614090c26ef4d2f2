"""What commands do to existing containers, through their supervisors."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
from typing import Any

from sandbox.engine.context import Context
from sandbox.engine.exec_ import ExecOptions, exec_
from sandbox.engine.reconcile import reconcile as _reconcile
from sandbox.engine.removal import discard
from sandbox.engine.run import run
from sandbox.errors import Conflict
from sandbox.spec import from_json
from sandbox.state import Container, Containers, Denial

__all__ = [
    "ExecOptions",
    "exec_",
    "kill",
    "open_containers",
    "remove",
    "run",
    "stop",
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
    if _ask(container, {"signal": number}, context) is None and number == signal.SIGKILL:
        # A supervisor that does not answer (stopped, stuck) takes its container with it.
        supervisor = container.status.supervisor
        assert supervisor is not None
        supervisor.kill()
    if number == signal.SIGKILL:
        _ask(container, {"wait": True}, context)


def with_denials(container: Container, context: Context) -> Container:
    """Return *container* with the denials counted so far, which are on disk only at its end."""
    if not container.running or not container.spec.security.explain:
        return container
    answer = _ask(container, {"denials": True}, context) or {}
    try:
        denials = tuple(from_json(Denial, denial) for denial in answer.get("denials", ()))
    except (TypeError, ValueError):
        return container
    status = dataclasses.replace(container.status, denials=denials)
    return dataclasses.replace(container, status=status)


def stop(
    container: Container, context: Context, timeout: float | None = None, number: int | None = None
) -> None:
    """Send the stop signal, and SIGKILL *timeout* seconds later; return when it has ended.

    A container that does not run is left as it is, without complaint, as in docker.
    """
    if not container.running:
        return
    spec = container.spec
    wanted = {
        "signal": spec.stop_signal if number is None else number,
        "timeout": spec.stop_timeout if timeout is None else timeout,
    }
    if _ask(container, {"stop": wanted}, context) is None and container.status.supervisor:
        container.status.supervisor.kill()
        container.status.supervisor.wait(10)


def wait(container: Container, context: Context) -> int:
    """Wait until the container has ended; return its exit code."""
    if container.running:
        answer = _ask(container, {"wait": True}, context)
        if answer is not None and "exit_code" in answer:
            return int(answer["exit_code"])
        assert container.status.supervisor is not None
        container.status.supervisor.wait()
    status = Containers(context.paths).read_status(container.directory)
    return 255 if status.exit_code is None else status.exit_code


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


def _ask(container: Container, request: dict[str, Any], context: Context) -> dict[str, Any] | None:
    """Send a request to the supervisor; None when it does not answer."""
    path = context.paths.runtime / f"c-{container.spec.id[:24]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.fspath(path))
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

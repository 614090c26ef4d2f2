"""`sbx create`, `start`, `restart`: containers that are there before they run."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from sandbox.container.channel import Channel, error_from
from sandbox.engine.context import Context
from sandbox.engine.run import start_again
from sandbox.errors import Conflict, SbxError
from sandbox.linux.descriptors import null_streams
from sandbox.linux.processes import ProcessRef, own_pid
from sandbox.spec import ContainerSpec
from sandbox.state import Container, Containers, Status


def create(spec: ContainerSpec, context: Context) -> Container:
    """Make a container that waits to be started. Raises Conflict, InvalidSpec."""
    containers = Containers(context.paths)
    # Until it is whole it is ours, and goes with us.
    directory = containers.create(spec, Status(supervisor=ProcessRef.of(own_pid())))
    status = Status()
    containers.write_status(directory, status)
    return Container(directory, spec, status)


def start_detached(container: Container, context: Context) -> None:
    """Start *container* in the background, in a process of its own; return when its command runs.

    What runs already is left as it is, as in docker. Raises the SbxError that kept it from running.
    """
    if container.running:
        return
    context.enter_storage()
    ours, theirs = Channel.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        _be_supervisor(container, context, theirs)
    theirs.close()
    try:
        message, _, _ = ours.receive()
    finally:
        ours.close()
    if message is None:
        raise SbxError(f"the supervisor of container {container.spec.name} was ended")
    if "error" in message:
        os.waitpid(child, 0)
        raise error_from(message)


def _be_supervisor(container: Container, context: Context, channel: Channel) -> NoReturn:
    """Carry the container as the process of `sbx run -d` does, without a client."""
    code = 125
    try:
        os.setsid()
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        if context.link is not None:
            context.link.connection.close()
            context.link = None
        code = start_again(container.spec.id, context, lambda: _let_go(channel), attach=False)
    except BaseException as err:
        channel.report(err, f"container {container.spec.name} could not be started")
    finally:
        os._exit(code & 0xFF)


def _let_go(channel: Channel) -> None:
    """Say that the command runs, and hold nothing of the caller's any longer."""
    sys.stdout.flush()
    null_streams()
    channel.send({"step": "running"})
    channel.close()


def restart(
    container: Container, context: Context, timeout: float | None, number: int | None
) -> None:
    """Stop *container* if it runs, and start it. Raises Conflict for one of `--rm`."""
    from sandbox.engine.containers import stop

    if container.running:
        if container.spec.remove:
            raise Conflict(
                f"container {container.spec.name} removes itself when it ends (--rm)",
                hint="it can't be started again",
            )
        stop(container, context, timeout, number)
        if container.status.supervisor is not None:
            container.status.supervisor.wait(10)
    start_detached(Containers(context.paths).load(container.spec.id), context)

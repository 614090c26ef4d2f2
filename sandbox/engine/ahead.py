"""The second process of a cold run, ahead of the first one.

A cold start is imports, in two halves: what finds out what is to be run, and what runs it (trio
above all). So the client forks two processes at once; the first reads the command line and the
image, and hands the spec over to the second, which has made the imports meanwhile and becomes the
supervisor. The connection to the client and its streams both have inherited.

    first → second    {"spec": …, "debug": …}; end of file: there is nothing to run
    second → first    end of file: the container is on disk, or the client knows why it is not
"""

from __future__ import annotations

from contextlib import suppress

from sandbox import wire
from sandbox.engine.context import Context
from sandbox.spec import ContainerSpec, to_json


def hand_over(spec: ContainerSpec, context: Context) -> bool:
    """Let the second process run *spec*; False when there is none (any more).

    When it is done, this process has nothing more to do with the client, and what keeps the
    container's layers in place can be let go.
    """
    orders, context.ahead = context.ahead, None
    if orders is None or context.link is None:
        return False
    with orders:
        context.link.take_over()
        try:
            wire.send(orders, {"spec": to_json(spec), "debug": context.debug})
        except OSError:
            context.link.relay_signals()
            return False
        with suppress(OSError):
            orders.recv(1)
    context.link.handed_over = True
    return True

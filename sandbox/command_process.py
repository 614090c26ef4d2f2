"""The process that carries out one command line, forked from the launcher or from the client."""

from __future__ import annotations

import io
import os
import pwd
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from sandbox.errors import SbxError
from sandbox.link import ClientLink
from sandbox.linux.descriptors import null_streams
from sandbox.linux.storage_userns import User

if TYPE_CHECKING:
    from sandbox.engine.context import Context
    from sandbox.engine.spare import Wish


def host_user(environ: dict[str, str]) -> User:
    """Return the user as the host knows it. To be called outside of any namespace of ours."""
    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = environ.get("USER", str(uid))
    return User(uid, gid, name)


def run_cold(connection: socket.socket, ahead: socket.socket | None) -> NoReturn:
    """Carry out the client's own command line, in a fork of it; *ahead* leads to a second one."""
    from sandbox.cli.main import dispatch
    from sandbox.engine.context import Context

    os.setsid()
    user = host_user(dict(os.environ))
    context = Context.create(os.environ, user, ClientLink(connection), in_storage=False)
    context.ahead = ahead
    _run(context, lambda context: dispatch(sys.argv[1:], context))
    os._exit(1)  # not reached


def run_ahead(orders: socket.socket, connection: socket.socket) -> NoReturn:
    """Be the second process of a cold run (`engine.ahead`), in a fork of the first."""
    try:
        os.setsid()
        user = host_user(dict(os.environ))
        from sandbox import wire
        from sandbox.container import init
        from sandbox.engine.context import Context
        from sandbox.engine.run import run
        from sandbox.errors import never_ran_codes
        from sandbox.spec import ContainerSpec, from_json
        from sandbox.supervisor import log_file, supervise

        def carry_out(context: Context) -> int:
            with never_ran_codes(), orders:
                return run(spec, context, recorded=orders.close)

        _ = init, log_file, supervise  # for later, when somebody waits
        request = wire.receive(orders)
        spec = from_json(ContainerSpec, request["spec"])
        context = Context.create(os.environ, user, ClientLink(connection), in_storage=False)
        context.debug = request["debug"]
        _run(context, carry_out)
    finally:
        os._exit(1)  # there is nothing to run


def run_request(descriptor: int) -> NoReturn:
    """Carry out one request from the socket *descriptor*: the cold way for a program's own use."""
    from sandbox import wire
    from sandbox.cli.main import dispatch
    from sandbox.engine.context import Context

    connection = socket.socket(fileno=descriptor)
    user = host_user(dict(os.environ))
    request, fds = wire.receive_with_fds(connection, 4)
    os.setsid()
    _become(request, fds)
    context = Context.create(os.environ, user, ClientLink(connection), in_storage=False)
    _run(context, lambda context: dispatch(request["argv"], context))
    os._exit(1)  # not reached


def run_warm(
    connection: socket.socket,
    request: dict[str, Any],
    fds: list[int],
    user: User,
    orders: socket.socket | None,
) -> None:
    """Carry out a client's request, in a fork of the launcher (which is in the storage userns).

    Returns only with *orders* (of a worker, see `launcher`), when the client was handed over to
    another process; nothing of it is left here then.
    """
    from sandbox.cli.main import dispatch
    from sandbox.engine.context import Context

    _become(request, fds)
    link = ClientLink(connection)
    context = Context.create(os.environ, user, link, in_storage=True)
    context.orders = orders
    _run(context, lambda context: dispatch(request["argv"], context))
    os.chdir("/")
    null_streams()


def rehearse(user: User) -> None:
    """Go through the first steps of a command once, changing nothing.

    A process shares its pages with the one that it was forked from until it writes to them (and
    Python writes wherever it looks); what is looked at here is this process's own already.
    """
    from contextlib import suppress

    from sandbox.cli import run
    from sandbox.engine.context import Context

    with suppress(SbxError):
        run.rehearse(Context.create(os.environ, user, None, in_storage=True))


def run_spare(wish: Wish, user: User, launcher: int) -> NoReturn:
    """Prepare a container like *wish*, in a fork of the launcher, for whoever wants one next."""
    from contextlib import ExitStack

    from sandbox.engine.context import Context
    from sandbox.engine.prepared import Spare
    from sandbox.linux.syscalls import set_name

    stack = ExitStack()

    def carry_out(_context: Context) -> int:
        with stack:
            return spare.run()

    try:
        os.setsid()
        set_name("sbx-preparing")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _set_limits(wish.limits)
        context = Context.create(wish.environ, user, None, in_storage=True)
        spare = Spare(wish, context, stack, launcher)
        spare.prepare()
        set_name("sbx-spare")
        taker, request, (connection, *streams) = spare.wait_for_taker()
        _become_streams(streams, request)
        os.environ.clear()
        os.environ.update(request["environ"])
        link = ClientLink(socket.socket(fileno=connection))
        context = Context.create(os.environ, user, link, in_storage=True)
        spare.accept(request, context, taker)
    except BaseException:
        stack.close()
        os._exit(0)
    _run(context, carry_out)
    os._exit(1)  # not reached: this one is nobody's worker


def _become(request: dict[str, Any], fds: list[int]) -> None:
    """Take over what a child of the client would have inherited."""
    cwd, *streams = fds
    os.fchdir(cwd)
    os.close(cwd)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.umask(request["umask"])
    _set_limits(request["limits"])
    _become_streams(streams, request)


def _set_limits(limits: dict[str, list[int]]) -> None:
    import resource

    for name, (soft, hard) in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        try:
            resource.setrlimit(kind, (soft, hard))
        except (ValueError, OSError):
            own_hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (min(soft, own_hard) if own_hard >= 0 else soft, own_hard))


def _become_streams(streams: list[int], request: dict[str, Any]) -> None:
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)
    # The launcher's text layers hold its own (empty) buffers; the encoding is the same.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    # A program wants what sbx says apart from what its command says (`library`).
    collect = bool(request.get("collect"))
    sys.stderr = io.StringIO() if collect else open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _run(context: Context, carry_out: Callable[[Context], int]) -> None:
    """Exit with what the client is told; return only in a worker whose client is another's now."""
    link = context.link
    assert link is not None
    code = 125
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        link.relay_signals()
        from sandbox.cli.main import guarded

        code = guarded(carry_out, context)
    except SbxError as err:
        print(err.describe(), file=sys.stderr)
        code = err.exit_code
    except KeyboardInterrupt:
        code = 130
    except SystemExit as err:
        code = err.code if isinstance(err.code, int) else 1
    except BaseException:
        if os.environ.get("SBX_DEBUG"):
            import traceback

            traceback.print_exc()
        else:
            print(
                f"sbx: internal error: {sys.exc_info()[1]!r} (SBX_DEBUG=1 shows where)",
                file=sys.stderr,
            )
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
        link.finish(code)
        if not link.handed_over or context.orders is None:
            os._exit(code & 0xFF)


if __name__ == "__main__":
    run_request(int(sys.argv[1]))

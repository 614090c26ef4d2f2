"""The `sbx` command: hand the command line to a process that carries it out, and stay with it.

That process is a fork of the launcher when one runs (warm: everything is imported) and a fork of
this one else (cold). Both do the same; see `sandbox.command_process`. The client itself imports
the standard library only. It forwards signals and keeps the user's terminal: what raw mode
changed is put back here, whatever becomes of the other side.
"""

from __future__ import annotations

# The C module below signal, which brings enum with it: the client's start is the user's wait.
import _signal
import os
import sys

from sandbox import call, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import socket
    from typing import Any, NoReturn

_FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGCONT,
)


def main() -> NoReturn:
    """Run `sbx` with the process's arguments."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # Until there is somebody to tell of a Ctrl-C it ends this, without a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    connection = _connect_launcher()
    if connection is not None:
        code = _attend(connection)
        connection.close()
        if code is not None:
            _leave(code)
    command = _fork_command()
    if connection is None and os.environ.get("SBX_LAUNCHER", "") != "off":
        _spawn_launcher_later()
    code = _attend(command)
    _spawn_launcher()
    _leave(125 if code is None else code)


def _leave(code: int) -> NoReturn:
    """End at once: there is nothing that the interpreter's own end would have to do."""
    sys.stderr.flush()
    os._exit(code)


_launcher_due = False


def _spawn_launcher_later() -> None:
    """Have a launcher for the next command: once this one has ended or has run for a second."""
    global _launcher_due
    _launcher_due = True
    _signal.signal(_signal.SIGALRM, lambda *_: _spawn_launcher())
    _signal.alarm(1)


def _spawn_launcher() -> None:
    global _launcher_due
    if _launcher_due:
        _launcher_due = False
        # At its end Python puts the default actions back: an alarm would kill us then.
        _signal.alarm(0)
        from sandbox import launcher

        launcher.spawn(call.launcher_key())


def _connect_launcher() -> _socket.socket | None:
    if os.environ.get("SBX_LAUNCHER", "") == "off":
        return None
    connection = call.connect(call.launcher_key())
    if connection is None:
        return None
    try:
        cwd = os.open(".", os.O_PATH | os.O_DIRECTORY)
        wire.send(connection, call.request(), (cwd, *_standard_streams()))
        os.close(cwd)
        return connection
    except OSError:
        connection.close()
        return None


def _standard_streams() -> tuple[int, int, int]:
    """Return descriptors 0, 1 and 2; /dev/null stands in for a closed one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open("/dev/null", os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
    return 0, 1, 2


def _fork_command() -> _socket.socket:
    """Fork the process that carries out the command; return the connection to it."""
    _standard_streams()
    import socket

    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        ahead = _fork_ahead(theirs)
        from sandbox import command_process

        command_process.run_cold(theirs, ahead)
    theirs.close()
    return ours


def _fork_ahead(connection: socket.socket) -> socket.socket | None:
    """Fork the second process of a run (`engine.ahead`); return our end of what it waits for."""
    from socket import socketpair

    from sandbox.cli.commands import find

    found = find(sys.argv[1:])
    if found is None or found[0] != "run":
        return None
    orders, theirs = socketpair()
    if os.fork() == 0:
        orders.close()
        from sandbox import command_process

        command_process.run_ahead(theirs, connection)
    theirs.close()
    return orders


def _attend(connection: _socket.socket) -> int | None:
    """Stay with the command; return its exit code, or None when it wants to be run cold."""
    terminal = _Terminal()

    def forward(number: int, _frame: object) -> None:
        try:
            wire.send(connection, {"signal": number})
        except OSError:
            pass

    def resize(_number: int, _frame: object) -> None:
        try:
            wire.send(connection, {"resize": True})
        except OSError:
            pass

    for number in _FORWARDED:
        # What nohup or a shell's `&` made ignored stays ignored.
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, forward)
    _signal.signal(_signal.SIGWINCH, resize)
    try:
        while True:
            message = wire.receive(connection)
            if message.get("raw"):
                terminal.make_raw()
                wire.send(connection, {"ready": True})
            if message.get("cold"):
                return None
            if "exit" in message:
                return int(message["exit"])
    except (wire.Disconnected, BrokenPipeError):
        terminal.restore()
        sys.stderr.write("sbx: the process that carried out the command was ended\n")
        return 125
    finally:
        terminal.restore()


class _Terminal:
    """The user's terminal, to be left as it was found."""

    def __init__(self) -> None:
        self._saved: list[Any] | None = None

    def make_raw(self) -> None:
        if not os.isatty(0) or self._saved is not None:
            return
        import termios
        import tty

        self._saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)

    def restore(self) -> None:
        if self._saved is None:
            return
        import termios

        # As a background job tcsetattr would stop us (SIGTTOU).
        previous = _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)
        termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
        _signal.signal(_signal.SIGTTOU, previous)
        self._saved = None


if __name__ == "__main__":
    main()

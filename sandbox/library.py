"""Running untrusted code from Python.

    >>> import sandbox
    >>> sandbox.run(["python3", "-c", "print(6 * 7)"]).stdout
    '42\\n'

A call speaks to the launcher as `sbx` does, starting one where there is none, so it may come from
a program with threads and an event loop: nothing of the program is forked.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from sandbox import call, wire
from sandbox.errors import SbxError
from sandbox.state import Denial

_CHUNK = 1 << 16
# How long a launcher that was just started may take before the call goes its own way.
_LAUNCHER_SECONDS = 10.0


class Completed(Struct, frozen=True):
    """What became of a command."""

    argv: tuple[str, ...]
    returncode: int  # 128 + n after signal n, 124 after the timeout
    stdout: str
    stderr: str
    timed_out: bool = False
    oom_killed: bool = False
    output_exceeded: bool = False
    denials: tuple[Denial, ...] = ()  # with explain=True
    messages: str = ""  # what sbx had to say: warnings, why the command was killed


def run(
    argv: Sequence[str],
    *,
    image: str = "host",
    profile: str = "untrusted",
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    mounts: Mapping[str, str] | None = None,
    network: str | None = None,
    memory: str | int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    timeout: float | None = None,
    cgroups: str | None = None,
    explain: bool = False,
    options: Sequence[str] = (),
) -> Completed:
    """Run *argv* in a new container and return what became of it.

    *mounts* maps paths inside to host paths, read-only; "rw:/host/path" makes one writable. Sizes
    are bytes or docker's "64m", times seconds. *options* are further options of `sbx run`.
    *cgroups="best-effort"* goes on where a limit can't be enforced. Raises SbxError when the
    container could not be started (a limit that can't be enforced, no such image …).
    """
    command = ["run", "--rm", "--profile", profile]
    for name, value in (
        ("workdir", cwd),
        ("network", network),
        ("memory", memory),
        ("cpus", cpus),
        ("pids-limit", pids),
        ("timeout", timeout),
        ("cgroups", cgroups),
    ):
        if value is not None:
            command.append(f"--{name}={value}")
    command += [f"--env={name}={value}" for name, value in (env or {}).items()]
    for target, source in (mounts or {}).items():
        writable = source.startswith("rw:")
        source = os.path.abspath(source.removeprefix("rw:"))
        mode = "" if writable else ",readonly"
        command.append(f"--mount=type=bind,source={source},target={target}{mode}")
    command += ["--interactive"] if input is not None else []
    command += ["--explain"] if explain else []
    command += [*options, image, *argv]
    data = input.encode() if isinstance(input, str) else input
    return _Call(command, data).carry_out(tuple(argv))


class _Call:
    """One command of `sbx`, with pipes of ours as its streams."""

    def __init__(self, command: list[str], data: bytes | None) -> None:
        self.command = command
        self.data = memoryview(data or b"")
        self.output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self.messages = b""

    def carry_out(self, argv: tuple[str, ...]) -> Completed:
        stdin, our_stdin = os.pipe()
        our_stdout, stdout = os.pipe()
        our_stderr, stderr = os.pipe()
        try:
            connection = _connect(self.command, (stdin, stdout, stderr))
        except BaseException:
            for descriptor in (our_stdin, our_stdout, our_stderr):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
        with connection:
            try:
                result = self._talk(connection, our_stdin, our_stdout, our_stderr)
            except BaseException:
                _interrupt(connection)
                raise
        texts = {k: b"".join(v).decode(errors="replace") for k, v in self.output.items()}
        if "timed_out" not in result:
            raise _error(str(result.get("messages", "")), int(result.get("exit", 125)))
        return Completed(
            argv,
            int(result["exit"]),
            texts["stdout"],
            texts["stderr"],
            bool(result["timed_out"]),
            bool(result["oom_killed"]),
            bool(result["output_exceeded"]),
            tuple(Denial(**denial) for denial in result["denials"]),
            str(result.get("messages", "")),
        )

    def _talk(
        self, connection: socket.socket, stdin: int, stdout: int, stderr: int
    ) -> dict[str, Any]:
        """Feed, read, and return the last message; closes the descriptors."""
        result: dict[str, Any] = {}
        open_fds = {stdin, stdout, stderr}
        with selectors.DefaultSelector() as selector:
            os.set_blocking(stdin, False)
            selector.register(stdin, selectors.EVENT_WRITE, "stdin")
            selector.register(stdout, selectors.EVENT_READ, "stdout")
            selector.register(stderr, selectors.EVENT_READ, "stderr")
            selector.register(connection, selectors.EVENT_READ, "message")
            try:
                while selector.get_map():
                    for key, _ in selector.select():
                        if key.data == "message":
                            result = _last_message(connection)
                            selector.unregister(connection)
                        elif not self._transfer(key.data, key.fd):
                            selector.unregister(key.fd)
                            open_fds.discard(key.fd)
                            os.close(key.fd)
            finally:
                for descriptor in open_fds:
                    os.close(descriptor)
        return result

    def _transfer(self, stream: str, descriptor: int) -> bool:
        """Move what can be moved; False when the stream is done."""
        if stream != "stdin":
            data = os.read(descriptor, _CHUNK)
            self.output[stream].append(data)
            return bool(data)
        try:
            self.data = self.data[os.write(descriptor, self.data[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.data)


def _last_message(connection: socket.socket) -> dict[str, Any]:
    try:
        return wire.receive(connection)
    except wire.Disconnected:
        return {}


def _interrupt(connection: socket.socket) -> None:
    try:
        wire.send(connection, {"signal": int(signal.SIGKILL)})
    except OSError:
        pass


def _error(messages: str, code: int) -> SbxError:
    """Rebuild the error that sbx ended with, the last of its messages: its detail and hint."""
    lines = messages.rstrip().splitlines()
    first = max((i for i, line in enumerate(lines) if line.startswith("sbx: ")), default=None)
    if first is None:
        return SbxError("sbx ended unexpectedly", detail=messages or None)
    rest = [line.strip() for line in lines[first + 1 :]]
    hints = [line.removeprefix("hint: ") for line in rest if line.startswith("hint: ")]
    details = [line for line in rest if not line.startswith("hint: ")]
    error = SbxError(
        lines[first].removeprefix("sbx: "),
        detail="\n".join(details) or None,
        hint=hints[0] if hints else None,
    )
    error.exit_code = code
    return error


_starting = threading.Lock()


def _connect(command: list[str], streams: tuple[int, int, int]) -> socket.socket:
    """Return a connection to a process that carries *command* out."""
    request = call.request()
    request["argv"] = command
    request["collect"] = True
    cwd = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        connection = None
        if os.environ.get("SBX_LAUNCHER", "") != "off":
            connection = _launcher()
        if connection is None:
            connection = _cold()
        wire.send(connection, request, (cwd, *streams))
        return connection
    finally:
        os.close(cwd)


def _launcher() -> socket.socket | None:
    """Connect to the launcher, after starting it if need be."""
    key = call.launcher_key()
    connection = _connected(key)
    if connection is not None:
        return connection
    with _starting:
        arguments = [sys.executable, "-P", "-m", "sandbox.launcher", key]
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        threading.Thread(target=process.wait, daemon=True).start()
        until = time.monotonic() + _LAUNCHER_SECONDS
        while time.monotonic() < until:
            connection = _connected(key)
            if connection is not None or process.poll() not in (None, 0):
                return connection
            time.sleep(0.01)
    return None


def _connected(key: str) -> socket.socket | None:
    connection = call.connect(key)
    return None if connection is None else socket.socket(fileno=connection.detach())


def _cold() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "sandbox.command_process", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
    return ours

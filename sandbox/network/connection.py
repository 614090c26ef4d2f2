"""Connect a container: choose the program, start it, wait until the network is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from msgspec import Struct, field

from sandbox.errors import Conflict, SbxError, Unavailable
from sandbox.network import pasta, slirp4netns
from sandbox.network import ports as published
from sandbox.network.loopback import keep_loopback_inside
from sandbox.network.process import NetworkProcess, Starter, wait_reported
from sandbox.network.resolver import needs_forwarder
from sandbox.spec import NetworkMode, Port

Program = Literal["pasta", "slirp4netns"]

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
READY_TIMEOUT = 20.0  # seconds; usually 0.03

SLIRP_NOTE = "pasta is not installed: slirp4netns is slower (sudo apt-get install passt)"
RAW_CAPABILITIES = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW"})
# `keep_loopback_inside` can be undone, or gone around, with these.
RAW_NOTE = (
    "with CAP_NET_ADMIN or CAP_NET_RAW a container can reach services on the host's loopback, "
    "unless pasta is of 2025 or later"
)


class Connection(Struct, frozen=True):
    """A container's network: on its way until `wait_ready` returned, gone after `close`."""

    process: NetworkProcess | None = None
    starter: Starter | None = None
    claimed: tuple[Port, ...] = ()
    notes: tuple[str, ...] = ()  # for the user, once
    api_socket: str | None = None
    starting: ExitStack = field(default_factory=ExitStack)  # what is held until it is ready
    running: ExitStack = field(default_factory=ExitStack)  # what is held until it is closed

    @property
    def ports(self) -> tuple[str, ...]:
        """The published ports as docker ps prints them."""
        return tuple(published.describe(port) for port in self.claimed)

    def wait_ready(self, seconds: float = READY_TIMEOUT) -> None:
        """Return when addresses, routes and published ports are there.

        `process.report_fd` is readable when there is something to wait for no longer. Raises
        Conflict or Unavailable with the program's own words; it is ended then.
        """
        try:
            if self.process is not None:
                self._wait_reported(self.process, seconds)
        except BaseException:
            self.close()
            raise
        self.starting.close()

    def close(self) -> None:
        """End the program. The namespace keeps its interface and reaches nothing any more."""
        self.starting.close()
        self.running.close()

    def _wait_reported(self, process: NetworkProcess, seconds: float) -> None:
        is_pasta = os.path.basename(process.program) == pasta.PROGRAM
        is_ready = pasta.is_ready if is_pasta else slirp4netns.is_ready
        ready, report = wait_reported(process, seconds, is_ready)
        if not ready:
            raise _failure(process.program, report.strip())
        assert self.starter is not None
        with self.starter.receive_netlink() as netlink:
            keep_loopback_inside(netlink)
        if self.api_socket is not None:
            slirp4netns.publish(self.api_socket, self.claimed)


def prepare(mode: NetworkMode) -> Starter | None:
    """Return what the network program will be started by.

    Call it in the main thread before children go to a pid namespace of their own; close it if
    `start` is not reached.
    """
    return Starter() if mode == "private" else None


def start(
    mode: NetworkMode,
    userns: int,
    netns: int,
    *,
    starter: Starter | None = None,
    ports: Sequence[Port] = (),
    capabilities: Sequence[str] = (),
    program: Program | None = None,
) -> Connection:
    """Begin to connect the network namespace *netns*, owned by *userns* (open descriptors).

    Returns at once: other work can be done before `wait_ready`. Call it as the user who owns
    *userns*. *starter*: what `prepare` returned; it is taken over.
    *capabilities*: the container's; the notes say what some of them open. *program*: None takes
    pasta, else slirp4netns.
    Raises Unavailable (no program), Conflict (port in use), InvalidSpec (impossible port).
    """
    if mode != "private":
        ignored = f"published ports are ignored with --network {mode}"
        return Connection(notes=(ignored,) if ports else ())
    path = find_program(program)
    with ExitStack() as starting, ExitStack() as running:
        claimed = published.claim(ports, starting)
        is_pasta = os.path.basename(path) == pasta.PROGRAM
        api_socket = None if is_pasta or not claimed else _api_socket(starting)
        if is_pasta:
            argv = pasta.command(path, claimed, forward_dns=needs_forwarder())
        else:
            argv = slirp4netns.command(path, api_socket)
        # pasta takes an ignored SIGPIPE for an error, slirp4netns ends when it isn't ignored.
        notes: tuple[str, ...] = () if RAW_CAPABILITIES.isdisjoint(capabilities) else (RAW_NOTE,)
        if not is_pasta and has_default_route():
            notes += (SLIRP_NOTE,)
        starter = starter or Starter()
        # Ports must be free again when the container is gone; else nobody needs to wait for it.
        running.callback(starter.close, wait=bool(claimed))
        process = starter.spawn(argv, userns, netns, ignored=() if is_pasta else (signal.SIGPIPE,))
        starting.callback(os.close, process.report_fd)
        return Connection(
            process=process,
            starter=starter,
            claimed=claimed,
            notes=notes,
            api_socket=api_socket,
            starting=starting.pop_all(),
            running=running.pop_all(),
        )


def connect(mode: NetworkMode, pid: int, *, ports: Sequence[Port] = ()) -> Connection:
    """`start` and `wait_ready` for the namespaces of the process *pid*, as /proc names it."""
    with ExitStack() as stack:
        userns, netns = open_namespaces(pid, stack) if mode == "private" else (-1, -1)
        connection = start(mode, userns, netns, ports=ports)
    connection.wait_ready()
    return connection


def open_namespaces(pid: int, stack: ExitStack) -> tuple[int, int]:
    """Return descriptors of *pid*'s user and network namespaces, open until *stack* is closed.

    This is refused (EACCES) once *pid* is not dumpable; see ptrace(2), "access mode checking".
    """
    fds = []
    for kind in ("user", "net"):
        fds.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
        stack.callback(os.close, fds[-1])
    return fds[0], fds[1]


def find_program(program: Program | None = None) -> str:
    """Return the path of *program*, or of the best there is. Raises Unavailable without any."""
    preferred: tuple[str, ...] = (pasta.PROGRAM, slirp4netns.PROGRAM)
    if not has_default_route():
        # pasta of 2023 does not start without one: "No routable interface".
        preferred = preferred[::-1]
    for name in (program,) if program else preferred:
        path = shutil.which(name, path=PATH)
        if path is not None:
            return path
    raise Unavailable(
        f"no program connects containers to the network: {program or 'pasta'} is not installed",
        hint="sudo apt-get install passt; or run without network: --network none",
    )


def has_default_route() -> bool:
    """True when this network namespace has one, of either family (proc(5), /proc/net/route)."""
    with contextlib.suppress(OSError), open("/proc/self/net/route") as file:
        if any(line.split()[1] == "00000000" for line in file):
            return True
    with contextlib.suppress(OSError), open("/proc/self/net/ipv6_route") as file:
        for line in file:
            destination, prefix, *_, device = line.split()
            if int(destination, 16) == int(prefix, 16) == 0 and device != "lo":
                return True
    return False


def has_forwarder() -> bool:
    """True when the program that `start` will take can hand on name look-ups (`resolv_conf`)."""
    return os.path.basename(find_program()) == pasta.PROGRAM


def _api_socket(stack: ExitStack) -> str:
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sbx-net-"))
    return os.path.join(directory, "api")


def _failure(program: str, report: str) -> SbxError:
    name = os.path.basename(program)
    if "ailed to bind port" in report:
        return Conflict("a published port is in use on the host", detail=f"{name}: {report}")
    return Unavailable(
        f"{name} could not connect the container to the network",
        detail=report,
        hint="run without network: --network none",
    )

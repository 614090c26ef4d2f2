"""`--network private`: what a container reaches, what reaches it, and what is left of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.errors import Conflict, InvalidSpec
from sandbox.linux.processes import exited
from sandbox.network.addresses import FORWARDER
from sandbox.network.addresses import GATEWAY as INNER_GATEWAY
from sandbox.network.connection import PATH, Program
from sandbox.spec import Port
from tests.kernel import netns
from tests.kernel.netns import LIMIT

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
PORT = 7777
HELD = 0.3  # seconds that a connection is tried which must not come about

INNER_RESOLVER = "10.111.111.3"  # slirp4netns's
INTERFACE: dict[Program, bytes] = {"pasta": b"eth0", "slirp4netns": b"tap0"}


@pytest.fixture(params=["pasta", "slirp4netns"])
def program(request: pytest.FixtureRequest) -> Program:
    if shutil.which(request.param, path=PATH) is None:
        pytest.skip(f"{request.param} is not installed")
    if not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("/dev/net/tun is not writable for this user")
    chosen: Program = request.param
    return chosen


@pytest.fixture
def host() -> Iterator[netns.Namespace]:
    with netns.host() as namespace:
        yield namespace


def server(
    address: str, port: int = PORT, kind: socket.SocketKind = TCP
) -> Callable[[], socket.socket]:
    def make() -> socket.socket:
        made = socket.socket(family(address), kind)
        made.bind((address, port))
        if kind == TCP:
            made.listen()
        return made

    return make


def client(
    address: str,
    port: int = PORT,
    *,
    kind: socket.SocketKind = TCP,
    interface: bytes | None = None,
    seconds: float = LIMIT,
) -> Callable[[], socket.socket]:
    """Connect and say hello, through *interface* if there is one."""

    def make() -> socket.socket:
        made = socket.socket(family(address), kind)
        made.settimeout(seconds)
        if interface is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface)
        made.connect((address, port))
        made.send(b"hello")
        return made

    return make


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def reached(listener: socket.socket) -> bool:
    """True when somebody connected or sent something."""
    return readable(listener, 0)


def try_to(container: netns.Namespace, make: Callable[[], socket.socket]) -> None:
    try:
        container.open(make)
    except OSError:
        pass


@pytest.mark.parametrize("kind", [TCP, UDP])
@pytest.mark.parametrize("bound", [False, True])
def test_no_address_leads_to_the_hosts_loopback(
    host: netns.Namespace, program: Program, kind: socket.SocketKind, bound: bool
) -> None:
    """Neither loopback addresses, nor the gateway's, nor those of the network program's own
    making lead to the host's loopback, also from a socket that is bound to the interface."""
    loopback = ("127.0.0.1", "127.0.0.53", "::1")
    servers = [host.open(server(address, kind=kind)) for address in loopback]
    candidates = (
        *loopback,
        netns.GATEWAY,
        netns.GATEWAY6,
        INNER_GATEWAY,
        INNER_RESOLVER,
        FORWARDER,
    )
    interface = INTERFACE[program] if bound else None

    with netns.container(host, program=program) as container:
        for address in candidates:
            try_to(container, client(address, kind=kind, interface=interface, seconds=HELD))

        # All go through one queue: when this has arrived, everything before it would have.
        witness = host.open(server(netns.OUTSIDE, kind=kind))
        container.open(client(netns.OUTSIDE, kind=kind))
        assert readable(witness, LIMIT)
        assert not any(reached(listener) for listener in servers)


def test_the_container_has_a_loopback_of_its_own(host: netns.Namespace, program: Program) -> None:
    """A server on 127.0.0.1 in the container is reached from inside, and not from the host."""
    with netns.container(host, program=program) as container:
        listener = container.open(server("127.0.0.1"))

        container.open(client("127.0.0.1"))
        with pytest.raises(ConnectionRefusedError):
            host.open(client("127.0.0.1"))

        assert reached(listener)


def test_abstract_sockets_of_the_host_are_not_there(
    host: netns.Namespace, program: Program
) -> None:
    """An abstract Unix socket belongs to the network namespace, and so can't be connected to."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.bind(b"\0sbx-test-abstract")
        made.listen()
        return made

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(b"\0sbx-test-abstract")
        return made

    host.open(listen)
    with netns.container(host, program=program) as container:
        with pytest.raises(ConnectionRefusedError):
            container.open(connect)
        host.open(connect)


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_the_container_reaches_other_machines(
    host: netns.Namespace, program: Program, kind: socket.SocketKind
) -> None:
    """TCP and UDP go out to what the host can reach, and the answers come back."""
    outside = host.open(server(netns.OUTSIDE, kind=kind))
    with netns.container(host, program=program) as container:
        inside = container.open(client(netns.OUTSIDE, kind=kind))

        assert answer(outside, kind) == b"hello"
        assert inside.recv(16) == b"back"


def answer(outside: socket.socket, kind: socket.SocketKind) -> bytes:
    """Send "back" to whoever comes first; return what they said."""
    assert readable(outside, LIMIT)
    if kind == TCP:
        connection, _ = outside.accept()
        with connection:
            said = connection.recv(16)
            connection.send(b"back")
        return said
    data, peer = outside.recvfrom(16)
    outside.sendto(b"back", peer)
    return data


@pytest.mark.parametrize("to", ["127.0.0.1", netns.ADDRESS])
def test_a_published_port_leads_into_the_container(
    host: netns.Namespace, program: Program, to: str
) -> None:
    """Who connects to the host's port speaks with the container's, there and back."""
    with netns.container(host, program=program, ports=[Port(80, 8080)]) as container:
        assert container.ports == ("0.0.0.0:8080->80/tcp",)
        listener = container.open(server("0.0.0.0", 80))

        # The client speaks first: before that, pasta of 2023 does not finish the handshake.
        outside = host.open(client(to, 8080))
        assert answer(listener, TCP) == b"hello"
        assert outside.recv(16) == b"back"


def test_a_published_udp_port_leads_into_the_container(
    host: netns.Namespace, program: Program
) -> None:
    """Datagrams to a published port come in and the answers go back."""
    with netns.container(host, program=program, ports=[Port(53, 8080, protocol="udp")]) as inner:
        listener = inner.open(server("0.0.0.0", 53, UDP))

        outside = host.open(client(netns.ADDRESS, 8080, kind=UDP))

        assert answer(listener, UDP) == b"hello"
        assert outside.recv(16) == b"back"


def test_a_udp_port_published_under_its_number_is_there_on_the_hosts_loopback(
    host: netns.Namespace,
) -> None:
    """-p 8080:8080/udp works on 127.0.0.1 with pasta of 2023 too, which loses answers otherwise."""
    with netns.container(host, ports=[Port(8080, 8080, protocol="udp")]) as container:
        listener = container.open(server("0.0.0.0", 8080, UDP))

        outside = host.open(client("127.0.0.1", 8080, kind=UDP))

        assert answer(listener, UDP) == b"hello"
        assert outside.recv(16) == b"back"


def test_a_port_published_on_one_address_is_not_on_the_others(
    host: netns.Namespace, program: Program
) -> None:
    """-p 127.0.0.1:8080:80 is reached on 127.0.0.1 alone."""
    port = Port(80, 8080, "127.0.0.1")
    with netns.container(host, program=program, ports=[port]) as container:
        assert container.ports == ("127.0.0.1:8080->80/tcp",)
        listener = container.open(server("0.0.0.0", 80))

        host.open(client("127.0.0.1", 8080))
        with pytest.raises(ConnectionRefusedError):
            host.open(client(netns.ADDRESS, 8080))

        assert readable(listener, LIMIT)


def test_only_published_ports_are_open_on_the_host(host: netns.Namespace, program: Program) -> None:
    """A server in the container that was not published can't be reached from the host."""
    with netns.container(host, program=program, ports=[Port(80, 8080)]) as container:
        container.open(server("0.0.0.0", 81))
        container.open(server("0.0.0.0", 80, UDP))

        with pytest.raises(ConnectionRefusedError):
            host.open(client("127.0.0.1", 81))
        assert "8080" not in host.run("ss", "-Hlnu")


def test_host_port_0_takes_a_free_one(host: netns.Namespace, program: Program) -> None:
    """-p 80 publishes on a free port of the host, and says which."""
    ports = [Port(80, 0), Port(81, 0), Port(53, 0, protocol="udp")]
    with netns.container(host, program=program, ports=ports) as container:
        listener = container.open(server("0.0.0.0", 80))
        assert len(set(container.ports)) == 3
        assert container.host_port > 1023

        host.open(client("127.0.0.1", container.host_port))

        assert readable(listener, LIMIT)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use_is_a_conflict_that_names_it(
    host: netns.Namespace, program: Program, protocol: str
) -> None:
    """A host port that somebody listens on can't be published."""
    host.open(server("0.0.0.0", 8080, TCP if protocol == "tcp" else UDP))
    port = Port(80, 8080, protocol="tcp" if protocol == "tcp" else "udp")

    with (
        pytest.raises(Conflict, match=rf"8080/{protocol} is in use"),
        netns.container(host, program=program, ports=[port]),
    ):
        pass


def test_a_privileged_port_is_refused_with_the_sysctl(
    host: netns.Namespace, program: Program
) -> None:
    """A port below 1024 that this user may not bind is refused, and the hint says what opens it."""
    with (
        pytest.raises(InvalidSpec, match="privileged") as caught,
        netns.container(host, program=program, ports=[Port(80, 80)]),
    ):
        pass

    assert "ip_unprivileged_port_start=80" in (caught.value.hint or "")


def test_a_host_without_a_route_can_still_publish_ports(host: netns.Namespace) -> None:
    """Off line, containers start and their published ports are there."""
    host.run("ip", "route", "del", "default")
    host.run("ip", "-6", "route", "del", "default")
    if shutil.which("slirp4netns", path=PATH) is None:
        pytest.skip("slirp4netns is not installed")

    with netns.container(host, program=None, ports=[Port(80, 8080)]) as container:
        listener = container.open(server("0.0.0.0", 80))
        outside = host.open(client("127.0.0.1", 8080))

        assert answer(listener, TCP) == b"hello"
        assert outside.recv(16) == b"back"


def test_names_are_resolved_by_a_resolver_on_the_hosts_loopback(
    host: netns.Namespace, tmp_path: Path
) -> None:
    """With a resolver on 127.0.0.53 the forwarder's port 53 leads to it, and no other port does."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.53\n")
    resolver = host.open(server("127.0.0.53", 53, UDP))
    other = host.open(server("127.0.0.53", PORT, UDP))

    with netns.container(host, resolv_conf=resolv_conf) as container:
        container.open(client(FORWARDER, PORT, kind=UDP))
        question = container.open(client(FORWARDER, 53, kind=UDP))

        assert answer(resolver, UDP) == b"hello"
        assert question.recv(16) == b"back"
        assert not reached(other)


def test_the_program_dies_with_a_killed_supervisor(host: netns.Namespace, program: Program) -> None:
    """kill -9 of the supervisor ends the network program, and the published port is free again."""
    with netns.container(host, program=program, ports=[Port(80, 8080)]) as container:
        pidfd = os.pidfd_open(container.program)

        os.kill(container.supervisor, signal.SIGKILL)

        assert exited(pidfd, LIMIT)
        os.close(pidfd)
    host.open(server("0.0.0.0", 8080))


def test_the_guard_can_end_before_the_supervisor_has_cleaned_up(
    host: netns.Namespace, program: Program
) -> None:
    """The pid namespace ends although nobody outside reaps the program: no zombie holds it."""
    with netns.container(host, program=program) as container:
        pidfd = os.pidfd_open(container.guard)

        os.kill(container.guard, signal.SIGKILL)

        assert exited(pidfd, LIMIT)
        os.close(pidfd)


def test_a_closed_connection_leaves_no_process(host: netns.Namespace, program: Program) -> None:
    """When the supervisor has closed the connection and gone, the program has too."""
    with netns.container(host, program=program) as container:
        pidfd = os.pidfd_open(container.program)

    assert exited(pidfd, LIMIT)
    os.close(pidfd)


def test_the_program_gets_nothing_of_the_users_environment(
    host: netns.Namespace, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets in the environment don't reach the program that talks to untrusted code."""
    monkeypatch.setenv("SBX_TEST_SECRET", "secret")
    with netns.container(host, program=program) as container:
        try:
            environment = Path(f"/proc/{container.program}/environ").read_bytes()
        except PermissionError:
            environment = b""  # pasta hides it, from this user as well

    assert b"SBX_TEST_SECRET" not in environment

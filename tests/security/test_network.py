"""The host's network, its loopback and its abstract sockets are out of reach."""

from __future__ import annotations

import shutil
import socket
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.linux import landlock
from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

ABSTRACT_SCOPE = 6  # the Landlock ABI that keeps abstract sockets apart, landlock(7)


@contextmanager
def listening(family: int, address: str | tuple[str, int]) -> Iterator[socket.socket]:
    """A listener that greets everybody with "host"."""
    with (
        socket.create_server(address, family=family)
        if family != socket.AF_UNIX
        else (socket.socket(socket.AF_UNIX)) as listener
    ):
        if family == socket.AF_UNIX:
            listener.bind(address)
            listener.listen()

        def greet() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.sendall(b"host")

        threading.Thread(target=greet, daemon=True).start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)


TRY = """
def reach(family, address):
    with socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(address)
        return connection.recv(10).decode()

def try_all(places):
    found = {}
    for name, (family, address) in places.items():
        address = tuple(address) if isinstance(address, list) else "\\0" + address
        try:
            found[name] = reach(family, address)
        except OSError as err:
            found[name] = errno.errorcode.get(err.errno, type(err).__name__)
    return found
"""


@pytest.mark.parametrize("network", ["none", "private"])
def test_the_host_s_loopback_is_out_of_reach(sbx: Sbx, network: str) -> None:
    """A server on the host's 127.0.0.1 or ::1 is not reached: not by that address, nor by the
    gateway's, nor by one of the helper's (10.0.2.2)."""
    if network == "private" and not (shutil.which("pasta") or shutil.which("slirp4netns")):
        pytest.skip("needs pasta or slirp4netns")
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
        gateways = [socket.inet_ntoa(struct.pack("<I", int(line.split()[2], 16)))
            for line in open("/proc/net/route").readlines()[1:]]
        hosts = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.0.2.2", "10.0.2.3", *gateways]
        answer(try_all({{host: (2, [host, {port}]) for host in hosts}}))
        """
        found = inside.run(
            sbx, TRY + textwrap.dedent(code), "--network", network, profile="default"
        )

    assert "host" not in found.values(), found


@pytest.mark.parametrize("network", ["none", "private", "host"])
def test_abstract_sockets_of_the_host_are_out_of_reach(sbx: Sbx, network: str) -> None:
    """An abstract socket belongs to the network namespace; where that is the host's, Landlock
    keeps them apart (CVE-2020-15257)."""
    if network == "private" and not (shutil.which("pasta") or shutil.which("slirp4netns")):
        pytest.skip("needs pasta or slirp4netns")
    if network == "host" and landlock.abi() < ABSTRACT_SCOPE:
        pytest.skip("needs Landlock 6")
    name = f"sbx-test-{sbx.directory.name}"
    with listening(socket.AF_UNIX, f"\0{name}"):
        code = f"answer(try_all({{'abstract': (1, {name!r})}}))"
        found = inside.run(sbx, TRY + code, "--network", network, profile="default")

    assert found["abstract"] in ("ECONNREFUSED", "EPERM")


def test_there_is_no_network_without_one(sbx: Sbx) -> None:
    """`untrusted` has the loopback interface and no route."""
    code = "answer([sorted(os.listdir('/sys/class/net')), read('/proc/net/route').count('\\n')])"

    assert inside.run(sbx, code) == [["lo"], 1]


def test_the_host_s_network_is_not_configured_from_inside(sbx: Sbx) -> None:
    """With --network host no interface, route or kernel parameter can be changed."""
    code = """
    SIOCSIFFLAGS = 0x8914
    with socket.socket() as any_socket:
        down = attempt(fcntl.ioctl, any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", 0))
    answer([down, attempt(write, "/proc/sys/net/ipv4/ip_forward"), os.statvfs("/sys").f_flag & 1])
    """
    down, forward, readonly = inside.run(sbx, code, "--network", "host", profile="default")

    assert down == "EPERM"
    assert forward in ("EROFS", "EACCES")
    assert readonly == 1

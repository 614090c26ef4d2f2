"""The command lines of pasta and slirp4netns, and how their reports are read."""

from __future__ import annotations

import pytest

from sandbox.network import pasta, slirp4netns
from sandbox.spec import Port


def values(argv: list[str], option: str) -> list[str]:
    return [argv[i + 1] for i, argument in enumerate(argv) if argument == option]


def test_pasta_opens_nothing_that_was_not_asked_for() -> None:
    """Without published ports every way between the two loopbacks is closed."""
    argv = pasta.command("pasta", [], forward_dns=False)

    for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert values(argv, option) == ["none"]
    assert "--no-map-gw" in argv
    assert "--dns-forward" not in argv


def test_pasta_forwards_published_ports_by_protocol_and_address() -> None:
    """Addresses stand before a slash, the container's port behind a colon."""
    ports = [
        Port(80, 8080),
        Port(443, 8443, "127.0.0.1"),
        Port(80, 81, "::1"),
        Port(53, 5353, "", "udp"),
    ]

    argv = pasta.command("pasta", ports, forward_dns=False)

    assert values(argv, "--tcp-ports") == ["8080:80", "127.0.0.1/8443:443", "::1/81:80"]
    assert values(argv, "--udp-ports") == ["5353:53"]


@pytest.mark.parametrize(
    ("report", "ready"),
    [
        (b"123\n", True),
        (b"warning: 1\n123\n", True),
        (b"", False),
        (b"12", False),
        (b"port 80\n", False),
    ],
)
def test_pasta_is_ready_when_it_has_written_its_pid(report: bytes, ready: bool) -> None:
    """Messages before it don't count."""
    assert pasta.is_ready(report) is ready


def test_slirp4netns_gives_no_access_to_the_hosts_loopback() -> None:
    """The gateway's and the resolver's address lead nowhere."""
    argv = slirp4netns.command("slirp4netns", None)

    assert {"--disable-host-loopback", "--disable-dns", "--enable-sandbox"} <= set(argv)


@pytest.mark.parametrize(
    ("report", "ready"),
    [(b"1", True), (b"sent tapfd=6\n1", True), (b"10.0.2.1", False), (b"", False)],
)
def test_slirp4netns_is_ready_when_it_has_written_a_1(report: bytes, ready: bool) -> None:
    """A message that happens to end so does not count."""
    assert slirp4netns.is_ready(report) is ready

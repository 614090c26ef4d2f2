"""The texts of /etc/resolv.conf and /etc/hosts."""

from __future__ import annotations

import ipaddress

import pytest

from sandbox.network.addresses import CONTAINER, FORWARDER
from sandbox.network.hosts import hosts, portable_entries
from sandbox.network.resolver import IPAddress, private_resolv_conf, resolv_conf


def conf(host: str, *, upstream: str = "", forwarder: bool = True, own: str = "fd00::5") -> str:
    def is_local(address: IPAddress) -> bool:
        return address == ipaddress.ip_address(own)

    return private_resolv_conf(host, upstream, forwarder=forwarder, is_local=is_local)


def test_servers_that_the_container_reaches_are_kept_in_order() -> None:
    """Ordinary servers, search domains and options stay as the host has them."""
    text = (
        "# made by something\nsearch example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    )

    assert conf(text + "options edns0\n") == (
        "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\noptions edns0\n"
    )


@pytest.mark.parametrize("server", ["127.0.0.53", "127.0.0.1", "::1", "0.0.0.0", "fd00::5"])
def test_a_resolver_on_the_host_itself_is_asked_through_the_forwarder(server: str) -> None:
    """A server that means something else inside is replaced by the forwarder."""
    assert conf(f"nameserver {server}\n") == f"nameserver {FORWARDER}\n"


def test_a_link_local_server_is_left_out() -> None:
    """A server named with an interface of the host's has no meaning inside."""
    assert conf("nameserver fe80::1%eth0\nnameserver 192.0.2.53\n") == "nameserver 192.0.2.53\n"


def test_without_a_forwarder_the_upstream_servers_are_asked() -> None:
    """slirp4netns has none that is safe: systemd-resolved's own servers are asked instead."""
    upstream = "nameserver 192.0.2.1\n"

    text = conf("nameserver 127.0.0.53\nsearch lan\n", upstream=upstream, forwarder=False)

    assert text == "nameserver 192.0.2.1\nsearch lan\n"


def test_a_host_without_servers_gives_none() -> None:
    """No server is made up."""
    assert conf("search lan\n") == "search lan\n"


def test_without_a_network_there_is_no_resolver() -> None:
    """`--network none` tells nothing about the host's network."""
    assert resolv_conf("none") == ""


def test_the_own_name_leads_to_the_containers_address() -> None:
    """A container finds itself by its name."""
    assert f"{CONTAINER}\tbox\n" in hosts("box", "private")
    assert "127.0.1.1\tbox\n" in hosts("box", "none")


def test_entries_for_the_hosts_own_addresses_are_left_out() -> None:
    """Names on the loopback would lead to the container itself; others are kept as they are."""
    text = (
        "127.0.0.1 localhost vm\n127.0.1.1 laptop\n::1 ip6-localhost\nff02::1 ip6-allnodes\n"
        "# comment\n\n192.0.2.7  mirror mirror.lan # ours\nnonsense here\n192.0.2.8\n"
    )

    assert portable_entries(text) == "192.0.2.7  mirror mirror.lan # ours\n"

"""The D-Bus messages that ask systemd for a cgroup."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.linux import dbus
from sandbox.linux.dbus import ProtocolError, Variant


def round_trip(signature: str, *values: Any) -> tuple[Any, ...]:
    fields = {dbus.PATH: "/a/b", dbus.MEMBER: "M", dbus.SIGNATURE: signature}
    data = dbus.encode(dbus.METHOD_CALL, 7, fields, signature, values)
    assert dbus.message_size(data) == len(data)
    message = dbus.decode(data)
    assert (message.type, message.serial) == (dbus.METHOD_CALL, 7)
    assert message.fields == fields
    return message.body


def test_a_known_message_has_the_specified_bytes() -> None:
    """A Hello as any D-Bus library writes it: header fields aligned to eight bytes."""
    fields = {
        dbus.PATH: "/org/freedesktop/DBus",
        dbus.DESTINATION: "org.freedesktop.DBus",
        dbus.INTERFACE: "org.freedesktop.DBus",
        dbus.MEMBER: "Hello",
    }
    expected = (
        b"l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00n\x00\x00\x00"
        b"\x01\x01o\x00\x15\x00\x00\x00/org/freedesktop/DBus\x00\x00\x00"
        b"\x06\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
        b"\x02\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
        b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00"
    )

    assert dbus.encode(dbus.METHOD_CALL, 1, fields, "", ()) == expected


def test_what_a_scope_is_made_of_survives() -> None:
    """The arguments of StartTransientUnit come back as they went in."""
    properties = [
        ("Description", Variant("s", "x")),
        ("PIDs", Variant("au", [1, 2**32 - 1])),
        ("Delegate", Variant("b", 1)),
    ]
    body = round_trip("ssa(sv)a(sa(sv))", "a.scope", "fail", properties, [])

    assert body == ("a.scope", "fail", properties, [])


@settings(database=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0")), st.integers(0, 9))))
def test_arrays_of_structs_survive(values: list[tuple[str, int]]) -> None:
    """Padding is right for every length of text."""
    values = [(text.encode("utf-8", "replace").decode(), number) for text, number in values]

    assert round_trip("ya(st)", 1, values) == (1, values)


@settings(database=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes of a broken peer raise ProtocolError and nothing else."""
    data = b"l" + data.ljust(16, b"\0")
    try:
        dbus.message_size(data)
        dbus.decode(data)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:path=/run/user/1/bus", ["/run/user/1/bus"]),
        ("unix:path=/a%20b,guid=1;unix:abstract=/tmp/x", ["/a b", "@/tmp/x"]),
        ("tcp:host=localhost,port=1", []),
        ("", []),
    ],
)
def test_addresses_of_the_session_bus_are_understood(address: str, path: list[str]) -> None:
    """Unix sockets by path or abstract name; other transports are passed over."""
    assert dbus.user_bus_addresses({"DBUS_SESSION_BUS_ADDRESS": address}) == path


def test_the_user_bus_is_known_by_the_runtime_directory() -> None:
    """Without an address: the bus of the login, then systemd's own socket."""
    assert dbus.user_bus_addresses({"XDG_RUNTIME_DIR": "/run/user/1"}) == [
        "/run/user/1/bus",
        "/run/user/1/systemd/private",
    ]

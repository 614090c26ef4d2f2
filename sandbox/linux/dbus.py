"""As much of D-Bus as asking systemd for a scope takes: one connection, calls, awaited signals.

Source: D-Bus Specification 0.43 (dbus.freedesktop.org/doc/dbus-specification.html). Little endian,
no file descriptors, no exported objects. Values are Python's own, shaped by a signature:
`Variant("au", [1])` for v, tuples for structs, lists for arrays.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from msgspec import Struct, field

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
_FIELD_TYPES = {PATH: "o", REPLY_SERIAL: "u", SIGNATURE: "g"}
_MAX_MESSAGE = 1 << 27  # the specification's limit: 128 MiB
_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class DBusError(Exception):
    """The peer answered with an error: its *name* and text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class ProtocolError(OSError):
    """The peer does not speak D-Bus as expected, or closed the connection."""


class Variant(Struct, frozen=True):
    """A value with its type: D-Bus's v."""

    signature: str
    value: Any


class Message(Struct, frozen=True):
    """A message that came in."""

    type: int
    serial: int
    fields: Mapping[int, Any]
    body: tuple[Any, ...]


def user_bus_addresses(environ: Mapping[str, str]) -> list[str]:
    """Return socket paths ("@…" for abstract ones) where the user's systemd may answer.

    The user bus first; then systemd's own socket, which speaks the same without a bus (and is what
    systemctl(1) uses), for machines without dbus.
    """
    addresses = []
    for address in environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        if path := _unix_path(address):
            addresses.append(path)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        addresses += [f"{runtime}/bus", f"{runtime}/systemd/private"]
    return list(dict.fromkeys(addresses))


def _unix_path(address: str) -> str | None:
    """Return the path of an address like ``unix:path=/run/user/1000/bus,guid=…``."""
    transport, _, rest = address.partition(":")
    if transport != "unix":
        return None
    pairs = dict(pair.partition("=")[::2] for pair in rest.split(","))
    if "path" in pairs:
        return unquote(pairs["path"])
    return "@" + unquote(pairs["abstract"]) if "abstract" in pairs else None


class Connection(Struct):
    """A connection to a bus, or to a peer that answers itself."""

    socket: socket.socket
    deadline: float  # monotonic seconds: no call waits longer
    _serial: int = 0
    _received: bytearray = field(default_factory=bytearray)
    _signals: list[Message] = field(default_factory=list)

    @classmethod
    def open(cls, address: str, seconds: float) -> Connection:
        """Connect and authenticate. Raises OSError, also when it takes longer than *seconds*."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection = cls(peer, time.monotonic() + seconds)
        try:
            peer.settimeout(seconds)
            peer.connect("\0" + address[1:] if address.startswith("@") else address)
            connection._authenticate()
        except BaseException:
            peer.close()
            raise
        return connection

    def close(self) -> None:
        self.socket.close()

    def _authenticate(self) -> None:
        """SASL EXTERNAL with an empty identity: who we are is what the socket's peer credentials
        say. A number would be wrong within a user namespace, where the own id is another."""
        self.socket.sendall(b"\0AUTH EXTERNAL\r\n")
        line = self._line()
        if line.startswith(b"DATA"):
            self.socket.sendall(b"DATA\r\n")
            line = self._line()
        if not line.startswith(b"OK"):
            raise ProtocolError(f"D-Bus authentication refused: {line.decode(errors='replace')}")
        self.socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        while b"\r\n" not in self._received:
            if len(self._received) > 4096:
                raise ProtocolError("D-Bus authentication: line too long")
            self._receive()
        line, _, rest = self._received.partition(b"\r\n")
        self._received = rest
        return bytes(line)

    def hello(self) -> None:
        """Register at a bus (not at a peer). Raises DBusError."""
        self.call(*_BUS, "Hello")

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *arguments: Any,
    ) -> tuple[Any, ...]:
        """Call a method and return the reply's values. Raises DBusError, OSError, TimeoutError."""
        self._serial += 1
        fields = {PATH: path, INTERFACE: interface, MEMBER: member, DESTINATION: destination}
        if signature:
            fields[SIGNATURE] = signature
        self.socket.sendall(encode(METHOD_CALL, self._serial, fields, signature, arguments))
        while True:
            message = self._next()
            if message.type == SIGNAL:
                self._signals.append(message)
            elif message.fields.get(REPLY_SERIAL) == self._serial:
                return _result(message)

    def add_match(self, rule: str) -> None:
        """Ask a bus for the signals that match *rule*."""
        self.call(*_BUS, "AddMatch", "s", rule)

    def wait_signal(self, member: str, wanted: Callable[[tuple[Any, ...]], bool]) -> Message:
        """Return the first signal *member*, from before or still to come, whose body is *wanted*.

        Raises TimeoutError at the connection's deadline.
        """
        while True:
            message = self._signals.pop(0) if self._signals else self._next()
            if (
                message.type == SIGNAL
                and message.fields.get(MEMBER) == member
                and wanted(message.body)
            ):
                return message

    def _next(self) -> Message:
        while True:
            total = message_size(self._received)
            if total is not None and len(self._received) >= total:
                message = decode(bytes(self._received[:total]))
                del self._received[:total]
                return message
            self._receive()

    def _receive(self) -> None:
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        remaining = self.deadline - time.monotonic()
        if remaining <= 0 or not poller.poll(remaining * 1000):
            raise TimeoutError("no answer over D-Bus")
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ProtocolError("the D-Bus connection was closed")
        self._received += chunk


def _result(message: Message) -> tuple[Any, ...]:
    if message.type == ERROR:
        text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
        raise DBusError(str(message.fields.get(ERROR_NAME, "")), text)
    return message.body


def encode(
    kind: int, serial: int, fields: Mapping[int, Any], signature: str, arguments: tuple[Any, ...]
) -> bytes:
    """Return a message's bytes (chapter "Message Format")."""
    body = bytearray()
    for one, argument in zip(split_signature(signature), arguments, strict=True):
        _put(body, one, argument)
    header = bytearray(struct.pack("<BBBBII", ord("l"), kind, 0, 1, len(body), serial))
    entries = [(code, Variant(_FIELD_TYPES.get(code, "s"), v)) for code, v in fields.items()]
    _put(header, "a(yv)", entries)
    _pad(header, 8)
    return bytes(header + body)


def message_size(received: bytes | bytearray) -> int | None:
    """Return the size of the message that starts here, None when too little of it has come."""
    if len(received) < 16:
        return None
    if received[0] != ord("l"):
        raise ProtocolError("a D-Bus message that is not little endian")
    body, _, fields = struct.unpack_from("<III", received, 4)
    total = int(16 + fields + -fields % 8 + body)
    if total > _MAX_MESSAGE:
        raise ProtocolError("a D-Bus message that is too large")
    return total


def decode(data: bytes) -> Message:
    """Return the message in *data*. Raises ProtocolError when it is malformed."""
    try:
        kind = data[1]
        _, serial = struct.unpack_from("<II", data, 4)
        entries, offset = _get(data, 12, "a(yv)")
        fields = {code: variant.value for code, variant in entries}
        offset += -offset % 8
        body = []
        for one in split_signature(fields.get(SIGNATURE, "")):
            value, offset = _get(data, offset, one)
            body.append(value)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError, RecursionError) as err:
        raise ProtocolError(f"a malformed D-Bus message: {err}") from err
    return Message(kind, serial, fields, tuple(body))


def split_signature(signature: str) -> list[str]:
    """Split into single complete types: "sa(sv)u" is s, a(sv), u. Raises ValueError."""
    types, start = [], 0
    while start < len(signature):
        end = _type_end(signature, start)
        types.append(signature[start:end])
        start = end
    return types


def _type_end(signature: str, start: int) -> int:
    while start < len(signature) and signature[start] == "a":
        start += 1
    if start >= len(signature):
        raise ValueError(f"incomplete signature {signature!r}")
    if signature[start] not in "({":
        return start + 1
    depth = 0
    for index in range(start, len(signature)):
        depth += (signature[index] in "({") - (signature[index] in ")}")
        if depth == 0:
            return index + 1
    raise ValueError(f"incomplete signature {signature!r}")


def _alignment(kind: str) -> int:
    if kind in _FIXED:
        return struct.calcsize(_FIXED[kind])
    return {"b": 4, "s": 4, "o": 4, "a": 4, "g": 1, "v": 1, "(": 8, "{": 8, "h": 4}[kind]


def _pad(buffer: bytearray, alignment: int) -> None:
    buffer += bytes(-len(buffer) % alignment)


def _put(buffer: bytearray, signature: str, value: Any) -> None:
    """Append *value*, marshalled as the one complete type *signature*."""
    kind = signature[0]
    _pad(buffer, _alignment(kind))
    if kind in _FIXED:
        buffer += struct.pack("<" + _FIXED[kind], value)
    elif kind == "b":
        buffer += struct.pack("<I", bool(value))
    elif kind in "so":
        raw = value.encode()
        buffer += struct.pack("<I", len(raw)) + raw + b"\0"
    elif kind == "g":
        raw = value.encode()
        buffer += bytes([len(raw)]) + raw + b"\0"
    elif kind == "v":
        _put(buffer, "g", value.signature)
        _put(buffer, value.signature, value.value)
    elif kind == "a":
        _put_array(buffer, signature[1:], value)
    else:
        for one, item in zip(split_signature(signature[1:-1]), value, strict=True):
            _put(buffer, one, item)


def _put_array(buffer: bytearray, element: str, values: Any) -> None:
    """The length counts the elements alone, not the padding before the first one."""
    position = len(buffer)
    buffer += bytes(4)
    _pad(buffer, _alignment(element[0]))
    start = len(buffer)
    for value in values:
        _put(buffer, element, value)
    struct.pack_into("<I", buffer, position, len(buffer) - start)


def _get(data: bytes, offset: int, signature: str) -> tuple[Any, int]:
    """Return the value of type *signature* at *offset*, and the offset behind it."""
    kind = signature[0]
    offset += -offset % _alignment(kind)
    if kind in _FIXED:
        code = "<" + _FIXED[kind]
        return struct.unpack_from(code, data, offset)[0], offset + struct.calcsize(code)
    if kind in "bh":
        return struct.unpack_from("<I", data, offset)[0], offset + 4
    if kind in "sog":
        return _get_string(data, offset, "B" if kind == "g" else "I")
    if kind == "v":
        inner, offset = _get_string(data, offset, "B")
        value, offset = _get(data, offset, inner)
        return Variant(inner, value), offset
    if kind == "a":
        return _get_array(data, offset, signature[1:])
    values = []
    for one in split_signature(signature[1:-1]):
        value, offset = _get(data, offset, one)
        values.append(value)
    return tuple(values), offset


def _get_string(data: bytes, offset: int, length_code: str) -> tuple[str, int]:
    length = struct.unpack_from("<" + length_code, data, offset)[0]
    start = offset + struct.calcsize(length_code)
    if start + length >= len(data):
        raise ValueError("a string beyond the end")
    return data[start : start + length].decode(), start + length + 1


def _get_array(data: bytes, offset: int, element: str) -> tuple[list[Any], int]:
    length = struct.unpack_from("<I", data, offset)[0]
    offset += 4
    offset += -offset % _alignment(element[0])
    end = offset + length
    if end > len(data):
        raise ValueError("an array beyond the end")
    values = []
    while offset < end:
        value, offset = _get(data, offset, element)
        values.append(value)
    return values, offset

"""Tar archives as a stream of entries: one pass, bounded memory, nothing believed.

Formats: v7, ustar and pax (POSIX.1-2017, pax), GNU long names, base-256 numbers and the sparse
formats old GNU, 0.0, 0.1 and 1.0 (GNU tar manual, "Tar Internals").

The standard library's tarfile reads all of this too, at five times the cost for each entry, and
without a limit on what an extended header may claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, field

from sandbox.errors import StoreError

BLOCK = 512
_MOST_HEADER_BYTES = 1 << 20
_MOST_EXTENSIONS = 16  # extended headers of one entry
_MOST_RECORDS = 1000
_MOST_SPARSE_PARTS = 1 << 18
_MOST_SIZE = 1 << 60

Kind = Literal["file", "dir", "symlink", "link", "fifo", "device"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "link",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "dir",
    b"6": "fifo",
    b"S": "file",
    b"D": "dir",
}
_XATTR = "SCHILY.xattr."
_ZERO_BLOCK = bytes(BLOCK)

# A part of a sparse file: offset and length of data.
Part = tuple[int, int]


class Entry(Struct):
    """One member of an archive."""

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int  # of the file when unpacked
    link: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    parts: tuple[Part, ...] | None = None  # of a sparse file
    stored: int = 0  # bytes of data in the archive


class TarError(StoreError):
    """The archive is damaged."""

    def __init__(self, detail: str) -> None:
        super().__init__("damaged tar archive", detail=detail)


class ByteStream:
    """Chunks read by exact numbers of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._chunk):
            data = bytes(self._chunk[self._at : end])
            self._at = end
            return data
        return b"".join(self.views(size))

    def views(self, size: int) -> Iterator[memoryview]:
        """Yield *size* bytes in pieces that are not copied, fewer only at the end."""
        while size:
            if self._at >= len(self._chunk):
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._chunk, self._at = memoryview(chunk), 0
                continue
            view = self._chunk[self._at : self._at + size]
            self._at += len(view)
            size -= len(view)
            yield view

    def skip(self, size: int) -> None:
        """Pass over *size* bytes. Raises TarError when there are fewer."""
        left = self._at + size - len(self._chunk)
        if left <= 0:
            self._at += size
            return
        for view in self.views(size):
            size -= len(view)
        if size:
            raise TarError("the archive ends too early")

    def drain(self) -> None:
        """Read to the end: digests cover what follows the archive's end as well."""
        self._chunk, self._at = memoryview(b""), 0
        for _ in self._chunks:
            pass


class TarStream:
    """Iterates over the entries; `data()` gives the current one's bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._stream = ByteStream(chunks)
        self._unread = 0  # data of the current entry that nobody has read
        self._padding = 0
        self._global: dict[str, bytes] = {}
        self._begun = False

    def __iter__(self) -> Iterator[Entry]:
        while True:
            self._stream.skip(self._unread + self._padding)
            entry = self._next()
            if entry is None:
                self._stream.drain()
                return
            yield entry

    def data(self) -> Iterator[memoryview]:
        """Yield the current entry's data. Raises TarError when the archive ends in it."""
        size, self._unread = self._unread, 0
        for view in self._stream.views(size):
            size -= len(view)
            yield view
        if size:
            raise TarError("the archive ends within a file")

    def _next(self) -> Entry | None:
        """Return the next entry with all that its extended headers say."""
        pax: dict[str, bytes] = dict(self._global) if self._global else {}
        sparse: list[bytes] = []
        long_name = long_link = None
        for _ in range(_MOST_EXTENSIONS):
            header = self._header()
            if header is None:
                return None
            kind = header[156:157]
            if kind not in b"xgXLK":
                break
            content = self._extension(header)
            if kind == b"L":
                long_name = content.rstrip(b"\0")
            elif kind == b"K":
                long_link = content.rstrip(b"\0")
            elif kind == b"g":
                parse_pax(content, self._global, [])
                pax = {**self._global, **pax}
            else:
                parse_pax(content, pax, sparse)
            if len(pax) > _MOST_RECORDS:
                raise TarError("too many records in extended headers")
        else:
            raise TarError("too many extended headers")
        entry = self._entry(header, long_name, long_link)
        if pax:
            _apply_pax(entry, pax)
        if b"\0" in entry.name or b"\0" in entry.link:
            raise TarError(f"a name with a zero byte: {entry.name[:200]!r}")
        if entry.kind == "file" and kind in b"0\0" and entry.name.endswith(b"/"):
            entry.kind = "dir"  # v7 archives have no type for directories
        self._unread, self._padding = entry.stored, -entry.stored % BLOCK
        if kind == b"S":
            self._old_sparse(entry, header)
        elif "GNU.sparse.major" in pax or "GNU.sparse.map" in pax or sparse:
            self._pax_sparse(entry, pax, sparse)
        return entry

    def _header(self) -> bytes | None:
        """Return the next header block, None at the archive's end."""
        header = self._stream.read(BLOCK)
        if not header and not self._begun:
            raise TarError("the archive is empty")
        self._begun = True
        if not header or header == _ZERO_BLOCK:
            return None
        if len(header) < BLOCK:
            raise TarError("the archive ends within a header")
        # The checksum counts its own field as eight spaces.
        total = sum(header) - sum(header[148:156]) + 256
        if number(header[148:156]) != total:
            raise TarError("wrong checksum of a header")
        return header

    def _extension(self, header: bytes) -> bytes:
        size = number(header[124:136])
        if size > _MOST_HEADER_BYTES:
            raise TarError(f"an extended header of {size} bytes")
        content = self._stream.read(size)
        if len(content) < size:
            raise TarError("the archive ends within a header")
        self._stream.skip(-size % BLOCK)
        return content

    def _entry(self, header: bytes, long_name: bytes | None, long_link: bytes | None) -> Entry:
        flag = header[156:157]
        name = header[:100].partition(b"\0")[0]
        if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
            name = prefix + b"/" + name
        if long_name is not None:
            name = long_name
        kind = _KINDS.get(flag)
        if kind is None:
            raise TarError(f"unknown type {flag!r} of {name[:200]!r}")
        size = number(header[124:136])
        return Entry(
            name=name,
            kind=kind,
            mode=number(header[100:108]) & 0o7777,
            uid=number(header[108:116]),
            gid=number(header[116:124]),
            mtime_ns=number(header[136:148]) * 1_000_000_000,
            size=size,
            link=long_link if long_link is not None else header[157:257].partition(b"\0")[0],
            # pax says that links may have a size without having data.
            stored=size if kind in ("file", "dir") else 0,
        )

    def _old_sparse(self, entry: Entry, header: bytes) -> None:
        parts = _old_parts(header[386:482], 4)
        more = header[482]
        while more:
            block = self._stream.read(BLOCK)
            if len(block) < BLOCK or len(parts) > _MOST_SPARSE_PARTS:
                raise TarError(f"damaged sparse map of {entry.name[:200]!r}")
            parts += _old_parts(block, 21)
            more = block[504]
        entry.size = number(header[483:495])
        entry.parts = _checked_parts(entry, parts)

    def _pax_sparse(self, entry: Entry, pax: dict[str, bytes], sparse: list[bytes]) -> None:
        if name := pax.get("GNU.sparse.name"):
            if b"\0" in name:
                raise TarError(f"a name with a zero byte: {name[:200]!r}")
            entry.name = name
        entry.size = decimal(pax.get("GNU.sparse.realsize") or pax.get("GNU.sparse.size") or b"0")
        if pax.get("GNU.sparse.major") == b"1":
            numbers = self._sparse_map_in_data(entry)
        else:
            numbers = [decimal(n) for n in (sparse or pax["GNU.sparse.map"].split(b",")) if n]
        if len(numbers) % 2 or len(numbers) > 2 * _MOST_SPARSE_PARTS:
            raise TarError(f"damaged sparse map of {entry.name[:200]!r}")
        entry.parts = _checked_parts(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _sparse_map_in_data(self, entry: Entry) -> list[int]:
        """Read format 1.0's map: decimal lines, the first their number, padded to a block."""
        text, wanted = b"", 1
        while text.count(b"\n") < wanted:
            if self._unread < BLOCK or len(text) > 64 * _MOST_SPARSE_PARTS:
                raise TarError(f"damaged sparse map of {entry.name[:200]!r}")
            text += self._stream.read(BLOCK)
            self._unread -= BLOCK
            entry.stored -= BLOCK
            if wanted == 1 and b"\n" in text:
                wanted = 1 + 2 * min(decimal(text.partition(b"\n")[0]), _MOST_SPARSE_PARTS)
        return [decimal(line) for line in text.split(b"\n")[1:wanted]]


def number(raw: bytes) -> int:
    """Return a header's number: octal, or GNU's base-256. Raises TarError."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=False) & ((1 << (8 * len(raw) - 1)) - 1)
        if raw[0] & 0x40:
            value -= 1 << (8 * len(raw) - 1)
    else:
        try:
            value = int(raw.partition(b"\0")[0].strip() or b"0", 8)
        except ValueError:
            raise TarError(f"not an octal number: {raw!r}") from None
    if len(raw) == 12 and raw[0] == 0xFF:
        return max(value, -_MOST_SIZE)  # times before 1970
    if not 0 <= value <= _MOST_SIZE:
        raise TarError(f"number out of range: {raw!r}")
    return value


def decimal(raw: bytes) -> int:
    """Return an extended header's number. Raises TarError."""
    if not raw.isdigit() or len(raw) > 19:
        raise TarError(f"not a decimal number: {raw[:40]!r}")
    return min(int(raw), _MOST_SIZE)


def parse_pax(content: bytes, records: dict[str, bytes], sparse: list[bytes]) -> None:
    """Add the records "LENGTH KEY=VALUE\\n" to *records*, format 0.0's numbers to *sparse*."""
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 21)
        if space < 0:
            if not content[at:].strip(b"\0"):
                return
            raise TarError("damaged extended header")
        end = at + decimal(content[at:space])
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or end > len(content) or content[end - 1 : end] != b"\n":
            raise TarError("damaged extended header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)
        records[key.decode("utf-8", "surrogateescape")] = value
        at = end


def _apply_pax(entry: Entry, pax: dict[str, bytes]) -> None:
    """Let the extended header's values take the place of the header's."""
    for key, value in pax.items():
        if key == "path":
            entry.name = value
        elif key == "linkpath":
            entry.link = value
        elif key == "size":
            entry.size = decimal(value)
            entry.stored = entry.size if entry.kind in ("file", "dir") else 0
        elif key == "uid":
            entry.uid = decimal(value)
        elif key == "gid":
            entry.gid = decimal(value)
        elif key == "mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key.removeprefix(_XATTR)] = value


def _nanoseconds(raw: bytes) -> int:
    whole, _, fraction = raw.partition(b".")
    negative = whole.startswith(b"-")
    seconds = decimal(whole.lstrip(b"-") or b"0")
    value = seconds * 1_000_000_000 + decimal(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def _old_parts(raw: bytes, count: int) -> list[Part]:
    parts = []
    for at in range(0, 24 * count, 24):
        if raw[at] == 0:
            break
        parts.append((number(raw[at : at + 12]), number(raw[at + 12 : at + 24])))
    return parts


def _checked_parts(entry: Entry, parts: list[Part]) -> tuple[Part, ...]:
    """Return *parts* if they are in order, within the file, and as long as the stored data."""
    end = total = 0
    for offset, length in parts:
        if offset < end or offset + length > entry.size:
            raise TarError(f"damaged sparse map of {entry.name[:200]!r}")
        end, total = offset + length, total + length
    if total != entry.stored:
        raise TarError(f"damaged sparse map of {entry.name[:200]!r}")
    return tuple(parts)

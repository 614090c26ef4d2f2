"""Archives are read as tarfile reads them, in one pass and with nothing believed."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import StoreError
from sandbox.image.tar_stream import BLOCK, Entry, TarError, TarStream
from tests.archives import Archive, chunked

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=150
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 250)


def read(data: bytes, size: int = 1000) -> Iterator[tuple[Entry, bytes]]:
    stream = TarStream(iter(chunked(data, size)()))
    for entry in stream:
        yield entry, b"".join(stream.data())


@given(
    st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=4),
    st.integers(1, 3000),
)
def test_names_and_contents_survive_any_format_and_chunking(
    format: int, files: list[tuple[str, bytes]], size: int
) -> None:
    """What tarfile writes comes out the same, however the stream is cut."""
    archive = Archive(format)
    for name, content in files:
        archive.file(name, content)

    found = [(entry.name.decode(), content) for entry, content in read(archive.bytes(), size)]

    assert found == files


@pytest.mark.parametrize("format", FORMATS)
def test_attributes_are_those_of_the_header(format: int) -> None:
    """Mode, owner and time of an entry are read."""
    data = Archive(format).file("a", b"x", mode=0o4755, uid=1000, gid=50, mtime=1234567890).bytes()

    [(entry, _)] = read(data)

    assert (entry.mode, entry.uid, entry.gid) == (0o4755, 1000, 50)
    assert entry.mtime_ns == 1234567890 * 10**9


def test_large_numbers_and_times_before_1970_are_read() -> None:
    """GNU's base-256 numbers hold what octal digits can't."""
    data = Archive(tarfile.GNU_FORMAT).file("a", uid=3_000_000_000, mtime=-5).bytes()

    [(entry, _)] = read(data)

    assert (entry.uid, entry.mtime_ns) == (3_000_000_000, -5 * 10**9)


def test_pax_records_win_over_the_header() -> None:
    """Times with fractions and extended attributes come from the extended header."""
    records = {"mtime": "1.25", "SCHILY.xattr.user.note": "hi"}
    data = Archive().file("a", pax_headers=records).bytes()

    [(entry, _)] = read(data)

    assert entry.mtime_ns == 1_250_000_000
    assert entry.xattrs == {"user.note": b"hi"}


def test_data_that_is_not_read_is_passed_over() -> None:
    """The next entry is found whether or not the current one's data was read."""
    data = Archive().file("a", b"x" * 5000).file("b", b"y").bytes()

    assert [entry.name for entry in TarStream(iter([data]))] == [b"a", b"b"]


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_are_understood(version: str, tmp_path: Path) -> None:
    """Each of GNU tar's sparse formats tells where the data belongs."""
    holed = tmp_path / "holed"
    with open(holed, "wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    form = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    data = subprocess.run(
        ["tar", "--sparse", *form, "-cf", "-", "-C", tmp_path, "holed"],
        check=True,
        capture_output=True,
    ).stdout

    [(entry, content)] = read(data)

    unpacked = bytearray(entry.size)
    at = 0
    assert entry.parts is not None
    for offset, length in entry.parts:
        unpacked[offset : offset + length] = content[at : at + length]
        at += length
    assert entry.name == b"holed"
    assert bytes(unpacked) == holed.read_bytes()


def test_an_archive_cut_short_is_refused() -> None:
    """An archive that ends in a file, a header or an extended header raises TarError."""
    whole = Archive().file("ä" * 100, b"x" * 2000).bytes()

    for length in (100, BLOCK + 10, 3 * BLOCK + 100, 4 * BLOCK):
        with pytest.raises(TarError):
            list(read(whole[:length]))


def test_a_header_with_a_wrong_checksum_is_refused() -> None:
    """Damage in a header is noticed."""
    data = bytearray(Archive().file("a").bytes())
    data[0] ^= 1

    with pytest.raises(TarError, match="damaged tar archive"):
        list(read(bytes(data)))


def test_an_endless_extended_header_is_refused() -> None:
    """An extended header is never read into memory beyond a megabyte."""
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 33
    header = info.tobuf(tarfile.GNU_FORMAT)

    with pytest.raises(TarError) as refusal:
        list(read(header))

    assert "extended header" in (refusal.value.detail or "")


def test_headers_about_headers_without_end_are_refused() -> None:
    """A chain of extended headers ends after a few."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    header = info.tobuf(tarfile.USTAR_FORMAT)

    with pytest.raises(TarError):
        list(read(header * 100))


@given(st.data())
def test_any_damage_is_a_clear_error(data: st.DataObject) -> None:
    """Whatever bytes are changed, reading ends, with StoreError at worst."""
    archive = Archive().file("a" * 120, b"x" * 600, pax_headers={"mtime": "1.5"}).symlink("l", "t")
    content = bytearray(archive.bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 4 * BLOCK))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # let the damage get past the checksum
        for at in range(0, 5 * BLOCK, BLOCK):
            header = content[at : at + BLOCK]
            total = sum(header) - sum(header[148:156]) + 256
            struct.pack_into("8s", content, at + 148, b"%06o\0 " % total)

    try:
        list(read(bytes(content)))
    except StoreError:
        pass


def test_what_follows_the_end_is_read_too() -> None:
    """The source is drained, as digests cover all of it."""
    source = io.BytesIO(Archive().file("a").bytes() + b"trailer")

    list(TarStream(iter(lambda: source.read(64), b"")))

    assert source.read() == b""

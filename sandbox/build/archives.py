"""ADD's archives: recognised by their content, and unpacked into the layer that is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from msgspec.structs import replace

from sandbox.build.errors import BuildError
from sandbox.build.layer_writer import Attributes, LayerWriter
from sandbox.build.modes import new_mode
from sandbox.build.tree import Node, Tree
from sandbox.errors import StoreError
from sandbox.image import compression
from sandbox.image.apply_layer import printable, split_name
from sandbox.image.content import file_chunks
from sandbox.image.limits import Counted, LayerLimits, bounded
from sandbox.image.tar_stream import BLOCK, Entry, TarStream, number

_ZEROS = bytes(1 << 16)
_TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG}


def is_archive(start: bytes) -> bool:
    """Return whether unpacked bytes begin as a tar archive: with a header whose sum is right."""
    if len(start) < BLOCK or start[:BLOCK] == bytes(BLOCK):
        return False
    try:
        wanted = number(start[148:156])
    except StoreError:
        return False
    return sum(start[:BLOCK]) - sum(start[148:156]) + 256 == wanted


def tar_chunks(descriptor: int) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file that may be packed; a bomb is refused."""
    counted = Counted(file_chunks(descriptor))
    kind, chunks = compression.detect(counted)
    return bounded(compression.decompress(chunks, kind), LayerLimits(), lambda: counted.size)


def starts_as_archive(descriptor: int) -> bool:
    """Return whether a file is an archive, packed or not; its offset is where it was."""
    try:
        start = b""
        for chunk in tar_chunks(descriptor):
            start += chunk
            if len(start) >= BLOCK:
                break
        return is_archive(start)
    except StoreError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def open_archive(tree: Tree, node: Node) -> Archive | None:
    """Return the archive that *node* is; None when it is none."""
    descriptor = tree.open(node)
    if starts_as_archive(descriptor):
        return Archive(descriptor, node.path)
    os.close(descriptor)
    return None


class Archive:
    """A tar archive of the context."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name

    def unpack(
        self, writer: LayerWriter, target: str, owner: tuple[int, int] | None, chmod: str | None
    ) -> Iterator[bytes]:
        """Yield the layer's part for the archive below *target*. Raises BuildError."""
        try:
            stream = TarStream(tar_chunks(self._descriptor))
            for entry in stream:
                if entry.kind == "device":
                    continue  # as in pulled layers
                yield from _entry(stream, entry, writer, target, owner, chmod)
        except StoreError as err:
            raise BuildError(f"can't unpack {self._name}", detail=err.detail) from err
        finally:
            os.close(self._descriptor)


def _entry(
    stream: TarStream,
    entry: Entry,
    writer: LayerWriter,
    target: str,
    owner: tuple[int, int] | None,
    chmod: str | None,
) -> Iterator[bytes]:
    place = _place(writer, target, split_name(entry.name))
    uid, gid = owner or (entry.uid, entry.gid)
    mode = entry.mode
    if chmod and entry.kind in _TYPES:
        mode = new_mode(chmod, _TYPES[entry.kind] | entry.mode)
    attributes = Attributes(mode, uid, gid, entry.mtime_ns, _plain(entry.xattrs))
    above = place.rpartition("/")[0]
    yield from writer.directories(above, *(owner or (0, 0)))
    if entry.kind == "dir":
        if place:
            if writer.kind(place) not in (None, "dir"):
                raise BuildError(f"cannot unpack a directory over /{place}")
            yield from writer.directory(place, attributes)
    elif entry.kind == "file":
        yield from writer.file(place, attributes, entry.size, _content(stream, entry))
    elif entry.kind == "symlink":
        link = os.fsdecode(entry.link)
        yield from writer.link(place, link, replace(attributes, xattrs={}))
    elif entry.kind == "link":
        yield from writer.hard_link(place, _place(writer, target, split_name(entry.link)))
    else:
        yield from writer.fifo(place, replace(attributes, xattrs={}))


def _place(writer: LayerWriter, target: str, parts: list[bytes]) -> str:
    """Return where a name of the archive is: links above it are followed, it itself is not."""
    names = [os.fsdecode(part) for part in parts]
    if not names:
        return target
    above = writer.follow("/".join([target, *names[:-1]]))
    return f"{above}/{names[-1]}" if above else names[-1]


def _plain(xattrs: dict[str, bytes]) -> dict[str, bytes]:
    return {k: v for k, v in xattrs.items() if k.startswith("user.") or k == "security.capability"}


def _content(stream: TarStream, entry: Entry) -> Iterator[bytes]:
    """Yield the file's bytes, holes included."""
    if entry.parts is None:
        for view in stream.data():
            yield bytes(view)
        return
    at = 0
    parts = iter(entry.parts)
    left = 0
    for view in stream.data():
        while view:
            if not left:
                offset, left = next(parts)
                yield from _zeros(offset - at)
                at = offset
                continue
            part = view[:left]
            yield bytes(part)
            at, left, view = at + len(part), left - len(part), view[len(part) :]
    yield from _zeros(entry.size - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)


def show(name: bytes) -> str:
    return printable(name)

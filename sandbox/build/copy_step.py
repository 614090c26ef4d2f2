"""A step that copies: COPY, ADD and WORKDIR, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from msgspec.structs import replace

from sandbox.build.accounts import find_owner
from sandbox.build.cache import key_of
from sandbox.build.copying import Copy, copy_layer, digest_of
from sandbox.build.downloads import Remote, fetch
from sandbox.build.layer_writer import LayerWriter
from sandbox.build.layers import EMPTY_DIFF_ID, Layer
from sandbox.build.place import Place, Stepped, TreeSource, scratch_directory
from sandbox.build.tree import ImageTree
from sandbox.image.descriptor import OCI_LAYER, Descriptor
from sandbox.image.store import Store

NO_LAYER = Layer(EMPTY_DIFF_ID, Descriptor(OCI_LAYER, EMPTY_DIFF_ID, 1024))


def copy_step(
    place: Place,
    copy: Copy,
    source: TreeSource,
    below: tuple[str, ...],
    chain: str,
    remotes: tuple[Remote, ...] = (),
) -> Stepped:
    """Return the layer of a COPY or ADD over the layers *below*. Raises BuildError."""
    store = place.store()
    cache = place.cache(store)
    if copy.link:
        below, chain = (), ""  # such a layer fits over anything
    with ExitStack() as stack:
        if remotes:
            directory = stack.enter_context(scratch_directory(store))
            names = [fetch(remote, directory, place.environ) for remote in remotes]
            source = TreeSource(directory=str(directory))
            copy = replace(copy, sources=tuple(names))
        tree = stack.enter_context(source.open())
        key = key_of(
            "copy",
            chain,
            digest_of(copy, tree),
            copy.target,
            copy.into_directory,
            copy.chown,
            copy.chmod,
            copy.unpack,
            [text.name for text in copy.texts],
            place.epoch,
        )
        known = cache.find(key)
        if known is not None:
            return Stepped(key, known, True)
        with TreeSource(below).open() as lower:
            writer = LayerWriter(lower, epoch=place.epoch, now=place.moment)
            layer = _add(store, writer, copy_layer(copy, tree, writer))
    cache.put(key, layer)
    return Stepped(key, layer, False)


def workdir_step(
    place: Place, path: str, owner: str, below: tuple[str, ...], chain: str
) -> Stepped:
    """Return the layer that has the directory *path*, if the layers *below* have it not.

    It belongs to *owner*, the stage's USER, as BuildKit has it.
    """
    store = place.store()
    cache = place.cache(store)
    key = key_of("workdir", chain, path, owner, place.epoch)
    known = cache.find(key)
    if known is not None:
        return Stepped(key, known, True)
    with TreeSource(below).open() as lower:
        assert isinstance(lower, ImageTree)
        writer = LayerWriter(lower, epoch=place.epoch, now=place.moment)
        target = writer.follow(path)
        uid, gid = find_owner(lower, owner) if owner else (0, 0)
        chunks = list(writer.directories(target, uid, gid))
        layer = NO_LAYER
        if not writer.is_empty:
            layer = _add(store, writer, iter([*chunks, *writer.end()]))
    cache.put(key, layer)
    return Stepped(key, layer, False)


def _add(store: Store, writer: LayerWriter, chunks: Iterator[bytes]) -> Layer:
    """Store what a writer gives. A layer without a change is none."""
    added = store.layers.add(_gathered(chunks))
    return NO_LAYER if writer.is_empty else Layer(added.diff_id, added.descriptor)


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small chunks: each costs its way through hashing and packing."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= 1 << 18:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)

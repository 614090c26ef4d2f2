"""`sbx cp`: files between a container and the host, as a stream from one process to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress

from sandbox.engine.container_tree import TreeChild, in_tree
from sandbox.errors import SbxError
from sandbox.image import compression
from sandbox.image.apply_layer import Applied
from sandbox.image.content import file_chunks, write_all
from sandbox.image.ownership import mapped_ids
from sandbox.image.tree_copy import Source, Tree, pack, unpack, unpack_archive
from sandbox.state import Container


def copy_out(container: Container, source: Source, destination: str | int) -> str:
    """Copy from *container* to a path of the host, or as an archive to a descriptor.

    This process is in the storage namespace. Returns what is to be said of it. Raises SbxError.
    """
    reading, writing = os.pipe()

    def send(tree: Tree) -> str:
        os.close(reading)
        for chunk in pack(tree, source):
            write_all(writing, chunk)
        return ""

    child = in_tree(container, send, keep=(writing,))
    try:
        if isinstance(destination, int):
            for chunk in file_chunks(reading):
                write_all(destination, chunk)
            said = ""
        else:
            with closing(_Host()) as host:
                said = _left_out(unpack(host.tree, destination, file_chunks(reading)))
    except BaseException as err:
        _prefer_childs(child, err)
        raise
    finally:
        os.close(reading)
    child.finish()
    return said


def copy_in(container: Container, source: Source | int, destination: str) -> str:
    """Copy a path of the host, or the archive from a descriptor, to *container*; as `copy_out`."""
    reading, writing = os.pipe()

    def receive(tree: Tree) -> str:
        os.close(writing)
        chunks = file_chunks(reading)
        if isinstance(source, int):
            kind, chunks = compression.detect(chunks)
            unpacked = compression.decompress(chunks, kind)
            return _left_out(unpack_archive(tree, destination, unpacked))
        return _left_out(unpack(tree, destination, chunks))

    child = in_tree(container, receive, keep=(reading,))
    try:
        with closing(_Host()) as host:
            chunks = file_chunks(source) if isinstance(source, int) else pack(host.tree, source)
            _send(chunks, writing)
    except BaseException as err:
        os.close(writing)
        if isinstance(err, SbxError):
            child.end()  # what is wrong is on this side
        else:
            _prefer_childs(child, err)
        raise
    os.close(writing)
    return child.finish()


def _send(chunks: Iterator[bytes], writing: int) -> None:
    # The child has an error to tell when it reads no more.
    with suppress(BrokenPipeError):
        for chunk in chunks:
            write_all(writing, chunk)


def _prefer_childs(child: TreeChild, err: BaseException) -> None:
    """Raise what went wrong in the child, if that was why the stream was no good."""
    if isinstance(err, SbxError):
        child.finish()
    else:
        child.end()


def _left_out(applied: Applied) -> str:
    return applied.describe_left_out()


class _Host:
    """The host's tree, with the working directory put back at the end."""

    def __init__(self) -> None:
        self._before = os.open(".", os.O_PATH | os.O_CLOEXEC)
        self._root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.tree = Tree(self._root, 0, mapped_ids())

    def close(self) -> None:
        with suppress(OSError):
            os.fchdir(self._before)
        os.close(self._before)
        os.close(self._root)

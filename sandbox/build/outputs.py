"""--output: the result as a directory or an archive instead of an image."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sandbox.build.copying import Copy, copy_layer
from sandbox.build.errors import BuildError
from sandbox.build.layer_writer import LayerWriter
from sandbox.build.options import Output
from sandbox.build.place import Place, TreeSource
from sandbox.build.tree import ImageTree, Node, Tree, walk
from sandbox.image.content import CHUNK, write_all


def write_tar(place: Place, lower: tuple[str, ...], destination: str, stdout: int) -> None:
    """Write the root file system of the result as a tar archive. Raises BuildError."""
    with TreeSource(lower).open() as tree, _opened(destination, stdout) as file:
        writer = LayerWriter(ImageTree(()), epoch=place.epoch, now=place.moment)
        for chunk in copy_layer(Copy(("/",), "/"), tree, writer):
            file.write(chunk)


@contextmanager
def _opened(destination: str, stdout: int) -> Iterator[IO[bytes]]:
    if destination == "-":
        with open(stdout, "wb", closefd=False) as file:
            yield file
        return
    try:
        with open(destination, "wb") as file:
            yield file
    except OSError as err:
        raise BuildError(f"can't write {destination}", detail=err.strerror) from err


def open_destination(output: Output) -> int:
    """Return a descriptor to write to: an error comes before the build. Raises BuildError."""
    if output.destination == "-":
        if os.isatty(sys.stdout.fileno()):
            raise BuildError("an archive is not written to a terminal", hint="--output dest=FILE")
        return os.dup(sys.stdout.fileno())
    try:
        return os.open(
            output.destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
    except OSError as err:
        raise BuildError(f"can't write {output.destination}", detail=err.strerror) from err


def write_directory(lower: tuple[str, ...], destination: str) -> None:
    """Write the files of the result into a directory, as the user's own. Raises BuildError.

    What is there and not in the result stays. Links of the directory are not followed.
    """
    target = Path(destination)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with TreeSource(lower).open() as tree:
            for node in walk(tree, tree.root):
                if node.path:
                    _write(tree, node, target)
            for node in walk(tree, tree.root):
                if node.path and not node.is_link:
                    place = target / node.path
                    if node.is_directory:
                        os.chmod(place, stat.S_IMODE(node.mode) | 0o700)
                    os.utime(place, ns=(node.mtime_ns, node.mtime_ns))
    except OSError as err:
        raise BuildError(f"can't write to {destination}", detail=str(err)) from err


def _write(tree: Tree, node: Node, target: Path) -> None:
    place = target / node.path
    there = os.path.lexists(place)
    if node.is_directory:
        if there and not stat.S_ISDIR(os.lstat(place).st_mode):
            os.unlink(place)
            there = False
        if not there:
            place.mkdir(mode=0o700)
        return
    if there:
        if stat.S_ISDIR(os.lstat(place).st_mode):
            raise BuildError(f"a directory is in the way of {place}")
        os.unlink(place)
    if node.is_link:
        os.symlink(tree.target(node), place)
    elif node.is_file:
        source = tree.open(node)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(place, flags, 0o600)
            try:
                while data := os.read(source, CHUNK):
                    write_all(descriptor, data)
                os.fchmod(descriptor, stat.S_IMODE(node.mode) & 0o777)
            finally:
                os.close(descriptor)
        finally:
            os.close(source)
    elif stat.S_ISFIFO(node.mode):
        os.mkfifo(place, stat.S_IMODE(node.mode) & 0o777)

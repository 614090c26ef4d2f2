"""The build context and the Dockerfile: a directory, standard input, a repository or an archive.

https://docs.docker.com/build/concepts/context/
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from sandbox.build.archives import is_archive, starts_as_archive, tar_chunks
from sandbox.build.downloads import clone, download, is_git, is_url
from sandbox.build.errors import BuildError
from sandbox.build.patterns import parse_ignore_file
from sandbox.build.place import scratch_directory
from sandbox.build.tree import ContextTree, read_file
from sandbox.errors import StoreError
from sandbox.image.apply_layer import apply_layer
from sandbox.image.content import write_all
from sandbox.image.limits import LayerLimits
from sandbox.image.ownership import available_ownership
from sandbox.image.store import Store
from sandbox.image.tar_stream import Entry, TarStream

_MOST_BYTES = 4 << 20
_DEFAULT_NAMES = ("Dockerfile", "dockerfile", "Containerfile")

__all__ = ["BuildContext", "is_archive", "open_context"]


class BuildContext(Struct, frozen=True):
    """Where a build's files come from."""

    directory: str
    patterns: tuple[str, ...]  # of .dockerignore
    dockerfile: bytes
    dockerfile_name: str


def open_context(
    given: str,
    dockerfile: str | None,
    store: Store,
    environ: Mapping[str, str],
    stack: ExitStack,
) -> BuildContext:
    """Return the context that the command line names; *stack* removes what was fetched for it.

    Raises BuildError.
    """
    text: bytes | None = None
    if dockerfile == "-":
        if given == "-":
            raise BuildError("can't read both the context and the Dockerfile from standard input")
        text = _read_stdin()
    if given == "-":
        directory, alone = _from_stdin(store, stack)
        text = alone if text is None else text
    elif is_git(given) or is_url(given):
        directory, alone = _from_afar(given, store, environ, stack)
        text = alone if text is None else text
    else:
        directory = os.path.abspath(given)
        if not os.path.isdir(directory):
            raise BuildError(
                f"path {given!r} not found"
                if not os.path.exists(directory)
                else f"{given} is not a directory",
                hint="sbx build [OPTIONS] DIRECTORY",
            )
    if text is not None:
        return BuildContext(directory, _patterns(directory, None), text, "Dockerfile")
    return _with_dockerfile(given, directory, dockerfile)


def _with_dockerfile(given: str, directory: str, dockerfile: str | None) -> BuildContext:
    tree = ContextTree(directory)
    try:
        if dockerfile is None:
            for name in _DEFAULT_NAMES:
                text = read_file(tree, name, _MOST_BYTES + 1)
                if text is not None:
                    return BuildContext(directory, _patterns(directory, name), text, name)
            raise BuildError(
                f"no Dockerfile in {given}", hint="name it with --file, or make one: FROM IMAGE …"
            )
        local = given not in ("-",) and not is_git(given) and not is_url(given)
        if local:
            return _named(directory, dockerfile)
        text = read_file(tree, dockerfile, _MOST_BYTES + 1)
        if text is None:
            raise BuildError(f"no {dockerfile} in the context")
        return BuildContext(directory, _patterns(directory, dockerfile), text, dockerfile)
    finally:
        tree.close()


def _named(directory: str, dockerfile: str) -> BuildContext:
    """Return the context with the Dockerfile of --file: a path from here, or from the context."""
    path = dockerfile
    if not os.path.exists(path) and not os.path.isabs(path):
        path = os.path.join(directory, dockerfile)
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as err:
        raise BuildError(f"can't read {dockerfile}", detail=err.strerror) from err
    beside = f"{path}.dockerignore"
    if os.path.isfile(beside):
        with open(beside, "rb") as file:
            patterns = tuple(parse_ignore_file(file.read(_MOST_BYTES)))
    else:
        patterns = _patterns(directory, None)
    return BuildContext(directory, patterns, text, os.path.basename(dockerfile))


def _patterns(directory: str, dockerfile: str | None) -> tuple[str, ...]:
    """Return what is ignored: by the Dockerfile's own list, else by the context's."""
    tree = ContextTree(directory)
    try:
        names = ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [".dockerignore"]
        for name in names:
            data = read_file(tree, name, _MOST_BYTES)
            if data is not None:
                return tuple(parse_ignore_file(data))
    finally:
        tree.close()
    return ()


def _read_stdin() -> bytes:
    if os.isatty(0):
        print("Reading the Dockerfile from standard input …", file=sys.stderr)
    data = b""
    while len(data) <= _MOST_BYTES and (chunk := os.read(0, 1 << 16)):
        data += chunk
    return data


def _from_stdin(store: Store, stack: ExitStack) -> tuple[str, bytes | None]:
    """Return a directory with what standard input holds, and a Dockerfile if it is just that."""
    scratch = stack.enter_context(scratch_directory(store))
    path = scratch / "stdin"
    with open(path, "xb") as file:
        while chunk := os.read(0, 1 << 20):
            write_all(file.fileno(), chunk)
    return _unpacked_or_text(path, scratch)


def _from_afar(
    given: str, store: Store, environ: Mapping[str, str], stack: ExitStack
) -> tuple[str, bytes | None]:
    scratch = stack.enter_context(scratch_directory(store))
    if is_git(given):
        clone(given, scratch / "context", environ)
        return str(scratch / "context"), None
    path = scratch / "download"
    download(given, path)
    return _unpacked_or_text(path, scratch)


def _unpacked_or_text(path: Path, scratch: Path) -> tuple[str, bytes | None]:
    """Return a directory: an archive's content; or an empty one, and the text of a Dockerfile."""
    directory = scratch / "context"
    directory.mkdir(mode=0o755)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not starts_as_archive(descriptor):
            with open(path, "rb") as file:
                return str(directory), file.read(_MOST_BYTES + 1)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            stream = _Ownerless(tar_chunks(descriptor))
            apply_layer(stream, root, available_ownership(), LayerLimits())
        except StoreError as err:
            raise BuildError("the context can't be unpacked", detail=err.detail) from err
        finally:
            os.close(root)
    finally:
        os.close(descriptor)
    return str(directory), None


class _Ownerless(TarStream):
    """An archive whose owners don't count: a context has none."""

    def __iter__(self) -> Iterator[Entry]:
        for entry in super().__iter__():
            entry.uid = entry.gid = 0
            yield entry

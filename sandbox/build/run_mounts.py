"""The mounts of one RUN made ready: binds of trees, caches, secrets, the agent's socket."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from sandbox.build.copying import Copy, copy_layer
from sandbox.build.errors import BuildError
from sandbox.build.layer_writer import LayerWriter
from sandbox.build.mount_flags import RunMount
from sandbox.build.place import Place, TreeSource, scratch_directory
from sandbox.build.tree import ContextTree, ImageTree, resolve
from sandbox.container.plan import TextFile
from sandbox.image.apply_layer import apply_layer
from sandbox.image.limits import LayerLimits
from sandbox.image.ownership import available_ownership
from sandbox.image.store import Store
from sandbox.image.tar_stream import TarStream
from sandbox.spec import Mount

if TYPE_CHECKING:
    from sandbox.build.run_step import Run


class Given(Struct, frozen=True):
    """What --secret and --ssh gave, by id."""

    secrets: Mapping[str, bytes] = field(default_factory=dict)
    sockets: Mapping[str, str] = field(default_factory=dict)


class Prepared(Struct):
    """What the container gets."""

    mounts: tuple[Mount, ...] = ()
    files: tuple[TextFile, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def prepare(step: Run, store: Store, place: Place, given: Given, stack: ExitStack) -> Prepared:
    """Return the mounts of *step*; what is made for them is undone by *stack*."""
    prepared = Prepared(env=step.hidden_env)
    if step.script is not None:
        path, text = step.script
        prepared.files += (TextFile(path, text, mode=0o755),)
    for mount, source in zip(step.mounts, step.trees, strict=True):
        if mount.type == "bind":
            assert source is not None
            prepared.mounts += (_bind(mount, source, store, stack),)
        elif mount.type == "cache":
            prepared.mounts += (_cache(mount, source, store, stack),)
        elif mount.type == "tmpfs":
            prepared.mounts += (Mount("tmpfs", mount.target, size=mount.size),)
        elif mount.type == "secret":
            _add_secret(prepared, mount, given)
        else:
            _add_agent(prepared, mount, given)
    return prepared


def _bind(mount: RunMount, source: TreeSource, store: Store, stack: ExitStack) -> Mount:
    if source.directory and not source.patterns and mount.readonly:
        # Nothing to leave out and nothing to protect: the directory itself.
        with source.open() as tree:
            assert isinstance(tree, ContextTree)
            node = resolve(tree, mount.source)
            if node is None:
                raise BuildError(f'"/{mount.source.lstrip("/")}": not found')
            path = os.path.join(source.directory, node.path) if node.path else source.directory
            return Mount("bind", mount.target, path, readonly=True)
    directory = stack.enter_context(scratch_directory(store))
    write_tree(source, mount.source or "/", directory)
    return Mount("bind", mount.target, str(directory / "content"), readonly=mount.readonly)


def write_tree(source: TreeSource, path: str, directory: Path) -> None:
    """Write what *path* in a tree is as `content` in *directory*. Raises BuildError."""
    nothing = ImageTree(())
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with source.open() as tree:
            writer = LayerWriter(nothing, epoch=None, now=0)
            chunks = copy_layer(Copy((path,), "/content"), tree, writer)
            apply_layer(TarStream(chunks), descriptor, available_ownership(), LayerLimits())
    finally:
        os.close(descriptor)


def _cache(mount: RunMount, source: TreeSource | None, store: Store, stack: ExitStack) -> Mount:
    directory = store.layout.root / "mounts"
    directory.mkdir(mode=0o700, exist_ok=True)
    name = hashlib.sha256(mount.id.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = directory / name
    if mount.sharing == "locked":
        stack.enter_context(_locked(directory / f"{name}.lock", wait=True))
    elif mount.sharing == "private":
        path = _free(directory, name, stack)
    if not path.exists():
        _create(path, mount, source, store)
    return Mount("bind", mount.target, str(path / "content"), readonly=mount.readonly)


def _create(path: Path, mount: RunMount, source: TreeSource | None, store: Store) -> None:
    with scratch_directory(store) as scratch:
        made = scratch / "cache"
        made.mkdir(mode=0o700)
        if source is not None:
            write_tree(source, mount.source or "/", made)
        content = made / "content"
        content.mkdir(mode=0o755, exist_ok=True)
        content.chmod(0o755 if mount.mode is None else mount.mode)
        if available_ownership() == "real":
            os.chown(content, mount.uid, mount.gid)
        try:
            made.rename(path)
        except OSError:
            if not path.exists():  # else somebody was quicker
                raise


def _free(directory: Path, name: str, stack: ExitStack) -> Path:
    """Return the first cache of that id that nobody else uses now."""
    for number in range(1000):
        numbered = f"{name}-{number}" if number else name
        try:
            stack.enter_context(_locked(directory / f"{numbered}.lock", wait=False))
        except BlockingIOError:
            continue
        return directory / numbered
    raise BuildError("too many private caches of one id are in use")


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _add_secret(prepared: Prepared, mount: RunMount, given: Given) -> None:
    content = given.secrets.get(mount.id)
    if content is None:
        if mount.required:
            raise BuildError(
                f"secret {mount.id}: not found", hint=f"sbx build --secret id={mount.id},src=FILE"
            )
        return
    text = content.decode("utf-8", "surrogateescape")
    if mount.variable:
        prepared.env += ((mount.variable, text),)
    if mount.target:
        mode = 0o400 if mount.mode is None else mount.mode
        prepared.files += (TextFile(mount.target, text, mode=mode, owner=(mount.uid, mount.gid)),)


def _add_agent(prepared: Prepared, mount: RunMount, given: Given) -> None:
    path = given.sockets.get(mount.id)
    if path is None:
        if mount.required:
            raise BuildError(f"ssh agent {mount.id}: not found", hint="sbx build --ssh default")
        return
    prepared.mounts += (Mount("bind", mount.target, path),)
    prepared.env += (("SSH_AUTH_SOCK", mount.target),)

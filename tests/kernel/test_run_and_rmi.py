"""An image that is removed while a container of it starts: the container's layers stay, or it is
not there."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox.cli.image_store import images_in_use
from sandbox.engine.context import Context
from sandbox.engine.images import find_image
from sandbox.errors import NotFound
from sandbox.image.store import Store
from sandbox.linux.processes import ProcessRef
from sandbox.linux.storage_userns import User
from sandbox.paths import Paths
from sandbox.spec import ContainerSpec
from sandbox.state import Containers, Status
from tests.archives import rootfs

ROUNDS = int(os.environ.get("SBX_RACE_ROUNDS", "60"))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    paths = Paths(*(tmp_path / name for name in ("data", "run", "config", "cache")))
    user = User(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name)
    # Without entering a namespace: a process with threads can't.
    return Context(paths, os.environ, user, in_storage=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(rootfs())
    return path


@pytest.fixture
def remover(context: Context, archive: Path) -> Iterator[int]:
    """A process that imports an image and removes it again, without an end."""
    pid = os.fork()
    if pid == 0:
        try:
            store = Store(context.paths)
            while True:
                store.import_rootfs(archive, "my")
                store.remove("my", force=True, in_use=lambda: images_in_use(context))
                store.prune(everything=True, in_use=lambda: images_in_use(context))
        finally:
            os._exit(1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_recorded_container_has_its_layers(context: Context, remover: int) -> None:
    """From the moment that its spec is on disk, all layers that it names stay there."""
    containers = Containers(context.paths)
    found = 0
    while found < ROUNDS:
        with ExitStack() as held:
            try:
                image = find_image("my", context, held)
            except NotFound:
                continue
            spec = ContainerSpec(
                id=os.urandom(32).hex(),
                name=f"race{found}",
                image="my",
                image_id=image.id,
                lower=image.lower,
                argv=("true",),
                created=0.0,
            )
            directory = containers.create(spec, Status(supervisor=ProcessRef.of(os.getpid())))
        found += 1
        for _ in range(3):  # the remover has its turns
            os.sched_yield()
            assert all((Path(layer) / "etc/motd").exists() for layer in image.lower)
        (directory / "spec.json").unlink()
    assert os.waitpid(remover, os.WNOHANG) == (0, 0)

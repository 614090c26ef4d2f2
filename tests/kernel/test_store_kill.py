"""kill -9 at any moment of anything that changes the store: it is whole, and the next try works."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.image.check import check
from sandbox.image.commit import Change, commit
from sandbox.image.config import ImageConfig
from sandbox.image.content import file_chunks
from sandbox.image.layer_diff import Upper
from sandbox.image.load import load
from sandbox.image.names import name_for
from sandbox.image.save import Saved, save
from sandbox.image.store import Store
from tests.archives import Archive, rootfs
from tests.kernel.killed import wait_or_kill
from tests.kernel.test_registry import User
from tests.registries import registry

ROUNDS = int(os.environ.get("SBX_KILL_ROUNDS", "16"))


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as host:
        yield host


class Work:
    """What is done to the store, again and again: each can be repeated after a kill."""

    def __init__(self, user: User, directory: Path, host: str) -> None:
        self.user = user
        self.host = host
        self.directory = directory
        many = Archive()
        for number in range(300):
            many.file(f"d/{number}", os.urandom(3000))
        (directory / "many.tar").write_bytes(many.bytes())
        (directory / "kept.tar").write_bytes(rootfs())
        for name in ("upper", "work"):
            (directory / name).mkdir()
        for number in range(200):
            (directory / f"upper/{number}").write_bytes(os.urandom(3000))
        self.store.import_rootfs(directory / "kept.tar", "kept")
        self.base = self.store.import_rootfs(directory / "many.tar", f"{host}/many:1")
        with open(directory / "saved.tar", "wb") as file:
            diff_ids = self.store.diff_ids(self.base.id)
            save(self.store, [Saved(self.store.manifest(self.base.id), diff_ids, ())], file)
        user.push(f"{host}/many:1")

    @property
    def store(self) -> Store:
        """The store as a new process opens it."""
        return Store(self.user.store.paths)

    def all(self) -> list[Callable[[], object]]:
        return [
            self.import_,
            self.pull,
            self.push,
            self.apply,
            self.load,
            self.commit,
            self.prune,
        ]

    def import_(self) -> None:
        self.store.import_rootfs(self.directory / "many.tar", "imported")

    def pull(self) -> None:
        self.forget()
        self.user.pull(f"{self.host}/many:1")

    def push(self) -> None:
        self.user.pull(f"{self.host}/many:1")
        target = f"{self.host}/other{random.randrange(1 << 30)}:1"
        self.store.tag(f"{self.host}/many:1", target)
        self.user.push(target)

    def apply(self) -> None:
        self.user.pull(f"{self.host}/many:1")
        for name in self.store.layers.names():
            self.store.layers.remove(name)
        self.store.resolve(f"{self.host}/many:1")

    def load(self) -> None:
        self.forget()
        descriptor = os.open(self.directory / "saved.tar", os.O_RDONLY)
        try:
            load(self.store, file_chunks(descriptor))
        finally:
            os.close(descriptor)

    def commit(self) -> None:
        upper = Upper(*(str(self.directory / name) for name in ("upper", "work")), lower=())
        commit(self.store, "kept", Change(ImageConfig()), upper, name_for("committed"))

    def prune(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Remove all but what must survive."""
        kept = "docker.io/library/kept:latest"
        self.store.prune(everything=True, keep=lambda image: kept in image.names)


def test_a_store_survives_kill_9_at_any_moment(user: User, tmp_path: Path, host: str) -> None:
    """`system check` finds nothing but what the next command clears; then nothing at all."""
    (tmp_path / "work").mkdir()
    work = Work(user, tmp_path / "work", host)
    longest: dict[Callable[[], object], float] = {}
    for one in work.all():
        began = time.monotonic()
        one()
        longest[one] = time.monotonic() - began

    for number in range(ROUNDS):
        one = work.all()[number % len(longest)]
        _killed(one, random.uniform(0, longest[one]))
        found = [problem for problem in check(work.store) if problem.what != "staging"]
        assert found == [], f"{one.__name__}: {found}"
        assert (Path(work.store.resolve("kept").lower[0]) / "etc/motd").read_text() == "hello"

        one()

        work.store.collect()
        assert check(work.store) == []


def _killed(work: Callable[[], object], after: float) -> None:
    """Do *work* in a child that is killed after so many seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    wait_or_kill(pid, after)

"""Images go to a registry and come back whole, whatever happens on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine.registry.progress import Progress
from sandbox.engine.registry.pull import Pulled, pull, tags
from sandbox.engine.registry.push import push
from sandbox.engine.registry.search import search
from sandbox.errors import InvalidSpec, NotFound, StoreError
from sandbox.image.check import check
from sandbox.image.platform import own_platform
from sandbox.image.reference import parse_reference
from sandbox.image.registry import credentials
from sandbox.image.registry.credentials import Credentials
from sandbox.image.store import Store
from sandbox.paths import Paths
from tests.archives import Archive
from tests.kernel.killed import wait_or_kill
from tests.registries import Faults, failing_proxy, registry

QUIET = Progress(quiet=True)


class User:
    """A user with a store and a configuration of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        names = ("data", "run", "config", "cache")
        self.store = Store(Paths(*(directory / name for name in names)))
        self.directory = directory
        self.environ = {"HOME": str(directory), "PATH": os.environ["PATH"]}

    def make(self, name: str, size: int = 100_000, seed: int = 1) -> str:
        """Import an image with a file of *size* bytes that can't be packed."""
        content = bytes((seed * 7 + n * n) % 251 for n in range(1000))
        noise = os.urandom(size)
        path = self.directory / "rootfs.tar"
        path.write_bytes(Archive().file("noise", noise).file("content", content).bytes())
        return self.store.import_rootfs(path, name).id

    def push(self, name: str) -> str:
        return push(self.store, parse_reference(name), self.environ, QUIET).digest

    def pull(self, name: str) -> Pulled:
        return pull(self.store, parse_reference(name), own_platform(), self.environ, QUIET)


@pytest.fixture
def ann(tmp_path: Path) -> User:
    return User(tmp_path / "ann")


@pytest.fixture
def bob(tmp_path: Path) -> User:
    return User(tmp_path / "bob")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as host:
        yield host


def test_what_one_pushes_another_pulls(ann: User, bob: User, host: str) -> None:
    """Id, digest and content are the same on both sides."""
    image_id = ann.make(f"{host}/team/app:1")

    digest = ann.push(f"{host}/team/app:1")
    first = bob.pull(f"{host}/team/app:1")
    second = bob.pull(f"{host}/team/app:1")

    assert (first.image.id, first.digest) == (image_id, digest)
    assert (first.newer, second.newer) == (True, False)
    [lower] = first.image.lower
    mine = ann.store.resolve(f"{host}/team/app:1").lower[0]
    assert Path(lower, "noise").read_bytes() == Path(mine, "noise").read_bytes()
    by_digest = bob.pull(f"{host}/team/app@{digest}")
    assert by_digest.image.id == image_id


def test_tags_are_listed(ann: User, host: str) -> None:
    """All tags of a repository are known to the registry."""
    ann.make(f"{host}/app:1")
    ann.store.tag(f"{host}/app:1", f"{host}/app:2")
    ann.push(f"{host}/app:1")
    ann.push(f"{host}/app:2")

    found = tags(parse_reference(f"{host}/app"), ann.environ)

    assert sorted(map(str, found)) == [f"{host}/app:1", f"{host}/app:2"]


@pytest.mark.parametrize("name", ["nothing", "app:nothing", "app@sha256:" + "0" * 64])
def test_what_the_registry_does_not_have_is_not_found(ann: User, host: str, name: str) -> None:
    """An unknown repository, tag or digest is NotFound."""
    ann.make(f"{host}/app:1")
    ann.push(f"{host}/app:1")

    with pytest.raises(NotFound):
        ann.pull(f"{host}/{name}")


def test_a_layer_is_uploaded_once(ann: User, host: str) -> None:
    """A second push sends nothing, and another repository's blob is mounted."""
    ann.make(f"{host}/app:1")
    ann.store.tag(f"{host}/app:1", f"{host}/other:1")
    faults = Faults()
    with failing_proxy(host, faults) as proxy:
        ann.store.tag(f"{host}/app:1", f"{proxy}/app:1")
        ann.store.tag(f"{host}/app:1", f"{proxy}/other:1")
        ann.push(f"{proxy}/app:1")
        faults.seen.clear()

        ann.push(f"{proxy}/app:1")
        assert not [line for line in faults.seen if line.startswith(("POST", "PATCH"))]

        ann.push(f"{proxy}/other:1")
        assert [line for line in faults.seen if "mount=sha256" in line]
        # the config alone, which is small, is sent
        assert len([line for line in faults.seen if line.startswith("PATCH")]) <= 1


def test_a_registry_may_be_trusted_by_its_certificate(ann: User, tmp_path: Path) -> None:
    """TLS is used; loopback's certificate needs no authority, as in docker."""
    with registry(tmp_path / "tls", tls=True) as host:
        ann.make(f"{host}/app:1")

        digest = ann.push(f"{host}/app:1")

        assert ann.pull(f"{host}/app:1").digest == digest


def test_a_password_is_asked_for_and_used(ann: User, tmp_path: Path) -> None:
    """Without credentials access is denied with the command that mends it."""
    with registry(tmp_path / "auth", auth=True) as host:
        ann.make(f"{host}/app:1")
        with pytest.raises(StoreError, match="denied") as refusal:
            ann.push(f"{host}/app:1")
        assert refusal.value.hint == f"sbx login {host}"

        credentials.save(host, Credentials("tester", "wrong"), ann.environ)
        with pytest.raises(StoreError, match="denied"):
            ann.push(f"{host}/app:1")

        credentials.save(host, Credentials("tester", "secret"), ann.environ)
        assert ann.push(f"{host}/app:1") == ann.pull(f"{host}/app:1").digest


def test_tokens_are_got_for_what_is_done(ann: User, host: str) -> None:
    """A bearer challenge is answered with a token for the repository and the actions."""
    faults = Faults(token=True)
    with failing_proxy(host, faults) as proxy:
        ann.make(f"{proxy}/team/app:1")
        credentials.save(proxy, Credentials("tester", "secret"), ann.environ)

        digest = ann.push(f"{proxy}/team/app:1")
        assert ann.pull(f"{proxy}/team/app:1").digest == digest

    assert set(faults.scopes) == {
        "repository:team/app:pull,push",
        "repository:team/app:pull",
    }


@pytest.mark.parametrize(
    ("case", "faults"),
    [
        ("reset", Faults(resets=2)),
        ("503 and 429", Faults(statuses=[503, 429])),
        ("truncated", Faults(truncate_blobs=[50_000, 20_000])),
        ("truncated, no ranges", Faults(truncate_blobs=[50_000], ignore_ranges=True)),
        ("corrupted", Faults(corrupt_blobs=1)),
    ],
)
def test_a_pull_survives_what_passes(
    ann: User, bob: User, host: str, case: str, faults: Faults
) -> None:
    """Failures that happen once or twice are not seen in the result."""
    ann.make(f"{host}/app:1")
    digest = ann.push(f"{host}/app:1")

    with failing_proxy(host, faults) as proxy:
        assert bob.pull(f"{proxy}/app:1").digest == digest

    ranges = [line for line in faults.seen if "bytes=" in line]
    assert bool(ranges) == (faults.truncate_blobs == [] and "truncated" in case)


def test_an_upload_goes_on_where_it_was_cut(ann: User, bob: User, host: str) -> None:
    """After a cut the registry is asked what it has; the image arrives whole."""
    faults = Faults(cut_uploads=1)
    with failing_proxy(host, faults) as proxy:
        image_id = ann.make(f"{proxy}/app:1")

        ann.push(f"{proxy}/app:1")

        assert bob.pull(f"{proxy}/app:1").image.id == image_id


def test_lasting_corruption_is_never_stored(ann: User, bob: User, host: str) -> None:
    """A blob that keeps arriving wrong is refused, and nothing of it stays."""
    ann.make(f"{host}/app:1")
    ann.push(f"{host}/app:1")

    with (
        failing_proxy(host, Faults(corrupt_blobs=100)) as proxy,
        pytest.raises(StoreError, match="wrong digest"),
    ):
        bob.pull(f"{proxy}/app:1")

    assert bob.store.list() == []
    assert os.listdir(bob.store.layers.directory) == []
    bob.store.collect()
    assert os.listdir(bob.store.blobs.directory) == []


def test_mirrors_are_asked_first(ann: User, bob: User, host: str) -> None:
    """registries.conf names mirrors; the registry itself is the last resort."""
    ann.make(f"{host}/mirrored/app:1")
    ann.push(f"{host}/mirrored/app:1")
    config = bob.directory / ".config/containers"
    config.mkdir(parents=True)
    (config / "registries.conf").write_text(
        '[[registry]]\nprefix = "registry.invalid"\nlocation = "registry.invalid"\n'
        f'[[registry.mirror]]\nlocation = "{host}/mirrored"\ninsecure = true\n'
    )

    pulled = bob.pull("registry.invalid/app:1")

    assert pulled.image.names == ("registry.invalid/app:1",)


def test_a_blocked_registry_is_not_asked(ann: User, host: str) -> None:
    """`blocked` in registries.conf forbids pull and push."""
    config = ann.directory / "registries.conf"
    config.write_text(f'[[registry]]\nlocation = "{host}"\nblocked = true\n')
    ann.environ["CONTAINERS_REGISTRIES_CONF"] = str(config)

    with pytest.raises(StoreError, match="blocked"):
        ann.pull(f"{host}/app:1")


def test_credentials_are_kept_as_docker_keeps_them(ann: User) -> None:
    """config.json is private, and keeps what else is in it."""
    path = ann.directory / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"psFormat": "x"}))

    credentials.save("docker.io", Credentials("me", "pass"), ann.environ)

    value = json.loads(path.read_text())
    assert value["psFormat"] == "x"
    assert value["auths"] == {"https://index.docker.io/v1/": {"auth": "bWU6cGFzcw=="}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert credentials.find("docker.io", ann.environ) == Credentials("me", "pass")
    assert credentials.find("ghcr.io", ann.environ) is None
    assert credentials.forget("docker.io", ann.environ)
    assert not credentials.forget("docker.io", ann.environ)


def test_credential_helpers_are_asked(ann: User) -> None:
    """credHelpers and credsStore name programs that know the password."""
    helper = ann.directory / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread server\n"
        'case "$1 $server" in\n'
        '"get ghcr.io") echo \'{"Username": "me", "Secret": "pass"}\';;\n'
        '*) echo "credentials not found in native keychain"; exit 1;;\nesac\n'
    )
    helper.chmod(0o755)
    ann.environ["PATH"] = f"{ann.directory}:{ann.environ['PATH']}"
    path = ann.directory / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"credsStore": "test"}))

    assert credentials.find("ghcr.io", ann.environ) == Credentials("me", "pass")
    assert credentials.find("quay.io", ann.environ) is None


def test_a_helper_is_a_name_not_a_path(ann: User) -> None:
    """A helper's name can't lead to another program."""
    path = ann.directory / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"credsStore": "../../bin/sh"}))

    with pytest.raises(InvalidSpec):
        credentials.find("ghcr.io", ann.environ)


def test_a_pull_killed_at_any_moment_leaves_a_whole_store(ann: User, bob: User, host: str) -> None:
    """After kill -9 the store checks clean but for its staging, and the next pull works."""
    ann.make(f"{host}/app:1", size=3_000_000)
    digest = ann.push(f"{host}/app:1")

    for attempt in range(12):
        pid = os.fork()
        if pid == 0:
            try:
                bob.pull(f"{host}/app:1")
            finally:
                os._exit(0)
        wait_or_kill(pid, 0.02 + attempt * 0.04)
        assert {problem.what for problem in check(bob.store)} <= {"staging"}

    assert bob.pull(f"{host}/app:1").digest == digest
    assert check(bob.store) == []


def test_a_search_looks_through_the_catalog(ann: User, host: str) -> None:
    """A registry without a search of its own is asked for its repositories."""
    for name in ("team/app", "team/tool", "other"):
        ann.make(f"{host}/{name}:1", size=100)
        ann.push(f"{host}/{name}:1")

    def found(term: str, limit: int = 25) -> list[str]:
        return [hit.name for hit in search(f"{host}/{term}", limit, ann.environ)]

    assert found("team") == [f"{host}/team/app", f"{host}/team/tool"]
    assert len(found("")) == 3
    assert found("", limit=1) == [f"{host}/other"]
    assert found("nothing") == []

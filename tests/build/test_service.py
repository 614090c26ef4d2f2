"""A real service: from a Debian base, with apt, PyPI, stages, a user of its own; to a registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.build.buildah import Buildah
from tests.registries import registry
from tests.rootfs import busybox
from tests.sbx_command import Sbx, remove_tree

SERVICE = Path(__file__).with_name("service")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ANSWER = "HTTP/1.1 200  1000 --once\n"


@dataclass(frozen=True, slots=True)
class Pushed:
    """The service in a registry; *sbx* has built it."""

    sbx: Sbx
    name: str


@pytest.fixture(scope="module")
def pushed(
    sbx_cache: Path, debian_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pushed]:
    with (
        registry(tmp_path_factory.mktemp("service") / "registry") as host,
        Sbx.in_private_directories(cache=sbx_cache) as sbx,
    ):
        sbx("import", "-q", debian_tar, "debian", check=True, timeout=120)
        name = f"{host}/team/service:1"
        secret = f"id=certificates,src={CERTIFICATES}"
        sbx("build", "-q", "-t", name, "--secret", secret, SERVICE, check=True, timeout=600)
        sbx("push", "-q", name, check=True, timeout=120)
        yield Pushed(sbx, name)


@pytest.mark.timeout(900)
def test_a_python_service_is_built_pushed_removed_pulled_and_run(pushed: Pushed) -> None:
    """apt-get and pip in RUN, two stages, USER, HEALTHCHECK, ENTRYPOINT."""
    sbx, name = pushed.sbx, pushed.name

    assert sbx("run", "--rm", name, check=True).stdout == ANSWER
    sbx("system", "prune", "--all", "--force", check=True)
    assert sbx("images", "-q", check=True).stdout == ""
    assert sbx("run", "--rm", "-q", name, check=True, timeout=120).stdout == ANSWER
    config = json.loads(sbx("inspect", name, check=True).stdout)[0]["Config"]
    assert config["User"] == "service"
    assert config["Entrypoint"] == ["python3", "service.py"]


@pytest.mark.timeout(900)
def test_podman_runs_the_service_from_the_same_registry(pushed: Pushed) -> None:
    """What sbx has pushed is an image for everybody."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("podman is not installed")
    directory = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp"))
    podman = [program, "--root", f"{directory}/root", "--runroot", f"{directory}/run"]
    try:
        pulled = _run(podman, "pull", "-q", "--tls-verify=false", pushed.name)
        assert pulled.returncode == 0, pulled.stderr
        config = json.loads(_run(podman, "inspect", pushed.name).stdout)[0]["Config"]
        assert config["User"] == "service"
        assert config["ExposedPorts"] == {"8080/tcp": {}}
        flags = ("--rm", "--cgroups=disabled", "--network=host")
        ran = _run(podman, "run", *flags, pushed.name)
        if "cgroup" in ran.stderr:
            pytest.skip("crun does not work with this machine's cgroups")
        assert ran.stdout == ANSWER, ran.stderr
    finally:
        remove_tree(directory)


def test_what_buildah_has_built_and_pushed_runs_here(sbx: Sbx, tmp_path: Path) -> None:
    """And the other way round: an image of buildah's, from a registry."""
    program = busybox()
    if program is None or shutil.which("buildah") is None:
        pytest.skip("needs buildah and a static busybox")
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(program, context / "busybox")
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\nENV GREETING=hello WHO=buildah\nUSER 7:7\n"
        'ENTRYPOINT ["/bin/busybox", "sh", "-c"]\nCMD ["echo $GREETING $WHO $(busybox id -u)"]\n'
    )
    directory = Path(tempfile.mkdtemp(prefix="b-", dir="/tmp"))
    try:
        buildah = Buildah(directory)
        with registry(tmp_path / "registry") as host:
            name = f"{host}/team/greeting:1"
            buildah("build", "--quiet", "--tag", name, context)
            buildah("push", "--quiet", "--tls-verify=false", name)
            assert sbx("run", "--rm", "-q", name, check=True).stdout == "hello buildah 7\n"
    finally:
        remove_tree(directory)


def _run(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.both_users
@pytest.mark.timeout(300)
def test_apt_get_installs_in_a_step(sbx: Sbx, debian_tar: Path) -> None:
    """Also for a user without subordinate ids."""
    sbx("import", "-q", debian_tar, "debian", check=True, timeout=120)
    dockerfile = (
        "FROM debian\nRUN apt-get update -q && apt-get install -qy --no-install-recommends make\n"
    )

    sbx("build", "-q", "-t", "made", "-", input=dockerfile, check=True, timeout=200)

    assert sbx("run", "--rm", "made", "make", "--version", check=True).stdout.startswith("GNU Make")
    assert os.listdir(sbx.directory / "data/sbx/storage/staging") == []

"""`sbx run` with images: their defaults, and pulling what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.registries import registry
from tests.rootfs import busybox, write_busybox_tar
from tests.sbx_command import Sbx


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    program = busybox()
    if program is None:
        pytest.skip("needs a static busybox")
    write_busybox_tar(program, tmp_path / "busybox.tar")
    return tmp_path / "busybox.tar"


def _import(sbx: Sbx, tar: Path, name: str, *changes: str) -> None:
    options = [word for change in changes for word in ("--change", change)]
    sbx("import", *options, tar, name, check=True)


def test_an_images_configuration_is_followed(sbx: Sbx, tar: Path) -> None:
    """Entrypoint, command, variables, directory and user of the image, unless others are given."""
    _import(
        *(sbx, tar, "box", 'ENTRYPOINT ["/bin/sh", "-c"]', 'CMD ["pwd; id -u; echo $A $B"]'),
        *("ENV A=image", "WORKDIR /srv", "USER 0:0", "LABEL kind=test"),
    )

    plain = sbx("run", "--rm", "-e", "B=cli", "box", check=True)
    assert plain.stdout == "/srv\n0\nimage cli\n"

    given = sbx(
        *("run", "--rm", "--entrypoint", "echo", "-u", "root", "-w", "/", "box", "$A"), check=True
    )
    assert given.stdout == "$A\n"


def test_an_images_volumes_outlive_no_removed_container(sbx: Sbx, tar: Path) -> None:
    """A declared volume is a volume of its own; `untrusted` makes it a plain directory."""
    _import(sbx, tar, "box", "VOLUME /data")

    mounts = sbx("run", "--rm", "box", "mount", check=True).stdout
    assert " on /data type " in mounts
    assert list((sbx.directory / "data/sbx/volumes").iterdir()) == []

    untrusted = ("--profile", "untrusted", "--cgroups", "best-effort")
    mounts = sbx("run", "--rm", *untrusted, "box", "mount", check=True).stdout
    assert " on /data type " not in mounts


def test_a_missing_image_is_pulled(sbx: Sbx, tar: Path, tmp_path: Path) -> None:
    """run pulls what is missing, never what is there, unless it is told otherwise."""
    with registry(tmp_path / "registry") as address:
        name = f"{address}/team/box:1"
        _import(sbx, tar, name, 'CMD ["echo", "ran"]')
        sbx("push", name, check=True)
        sbx("rmi", name, check=True)

        assert sbx("run", "--rm", "--pull", "never", name).returncode == 125
        pulled = sbx("run", "--rm", name, check=True)
        assert pulled.stdout == "ran\n"
        assert f"Unable to find image '{name}' locally" in pulled.stderr

        again = sbx("run", "--rm", name, check=True)
        assert "Unable to find" not in again.stderr
        always = sbx("run", "--rm", "--pull", "always", "--quiet", name, check=True)
        assert always.stdout == "ran\n"

        missing = sbx("run", "--rm", f"{address}/team/none")
        assert missing.returncode == 125
        assert "team/none" in missing.stderr

    assert sbx("run", "--rm", name, check=True).stdout == "ran\n"
    (shown,) = json.loads(sbx("inspect", name, check=True).stdout)
    assert name in shown["RepoTags"]

"""Every Dockerfile of the corpus gives the image that BuildKit and buildah give."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.build.buildah import Buildah
from tests.build.corpus import IMPORT, Case, cases
from tests.build.flatten import Tree, described, read_image
from tests.sbx_command import Sbx, remove_tree

# Of how many cases buildah's result is made anew; SBX_CORPUS=all makes all.
LIVE = os.environ.get("SBX_CORPUS", "some")
SOME = ("copy-from-stage", "env-forms", "run-removes", "ignore-patterns")


@dataclass(frozen=True, slots=True)
class Ground:
    """One store for all cases."""

    sbx: Sbx
    directory: Path
    base: tuple[dict[str, Any], list[Tree]]

    def build(self, case: Case) -> dict[str, Any]:
        archive = self.directory / f"{case.name}.tar"
        output = f"type=oci,dest={archive}"
        self.sbx("build", "-q", *case.given(), "-o", output, case.context, check=True)
        return described(archive, self.base)


@pytest.fixture(scope="module")
def ground(
    sbx_cache: Path, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    directory = tmp_path_factory.mktemp("corpus")
    with Sbx.in_private_directories(cache=sbx_cache) as sbx:
        sbx(*IMPORT, busybox_tar, "busybox", check=True)
        sbx("save", "-o", directory / "base.tar", "busybox", check=True)
        yield Ground(sbx, directory, read_image(directory / "base.tar"))
        assert sbx("system", "check").returncode == 0


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_an_image_is_as_expected(ground: Ground, case: Case) -> None:
    """Configuration field by field, tree entry by entry."""
    expected = json.loads(case.expected.read_text())

    found = ground.build(case)

    assert (case.without_differences(found) if case.buildah else found) == expected


@pytest.fixture(scope="module")
def buildah(ground: Ground) -> Iterator[Buildah]:
    if not shutil.which("buildah"):
        pytest.skip("needs buildah")
    made = Buildah(Path(tempfile.mkdtemp(prefix="b-", dir="/tmp")))
    made.prepare(ground.directory / "base.tar")
    yield made
    remove_tree(made.directory)


@pytest.mark.parametrize(
    "case",
    [case for case in cases() if case.buildah and (LIVE == "all" or case.name in SOME)],
    ids=lambda case: case.name,
)
def test_buildah_gives_what_is_expected(ground: Ground, buildah: Buildah, case: Case) -> None:
    """The expectations are no invention: buildah's image is compared live."""
    archive = ground.directory / f"{case.name}-buildah.tar"

    found = buildah.build(case, archive, ground.base)

    assert found == json.loads(case.expected.read_text())

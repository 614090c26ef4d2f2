"""A build of the real command, on an image of busybox."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sbx_command import Sbx


@dataclass(slots=True)
class Builder:
    """Builds in a context directory of its own; the image `busybox` is there."""

    sbx: Sbx
    context: Path

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __call__(
        self, dockerfile: str, *arguments: str, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Build *dockerfile* as the image `built`, with plain progress on standard error."""
        (self.context / "Dockerfile").write_text(dockerfile)
        given = ("-t", "built", "--progress", "plain", *arguments, self.context)
        result = self.sbx("build", *given, check=check, **options)
        assert "Traceback" not in result.stderr
        assert "internal error" not in result.stderr, result.stderr
        return result

    def run(self, *arguments: str, image: str = "built") -> str:
        """What a container of the image prints."""
        return self.sbx("run", "--rm", "--network=none", image, *arguments, check=True).stdout

    def config(self, image: str = "built") -> dict[str, Any]:
        """The image's `config`, as it is stored."""
        found: dict[str, Any] = self.document(image).get("config", {})
        return found

    def document(self, image: str = "built") -> dict[str, Any]:
        storage = self.sbx.directory / "data/sbx/storage"
        name = json.loads(self.sbx("inspect", image, check=True).stdout)[0]["Id"]
        found: dict[str, Any] = json.loads((storage / "blobs" / name.replace(":", "/")).read_text())
        return found


@pytest.fixture
def build(sbx: Sbx, busybox_tar: Path, tmp_path: Path) -> Iterator[Builder]:
    sbx("import", "--quiet", busybox_tar, "busybox", check=True)
    context = tmp_path / "context"
    context.mkdir()
    yield Builder(sbx, context)
    assert sbx.containers() == []
    check = sbx("system", "check")
    assert check.returncode == 0, check.stdout + check.stderr


def cached(result: subprocess.CompletedProcess[str]) -> int:
    """How many steps of a build came from the cache."""
    return result.stderr.count(" CACHED\n")

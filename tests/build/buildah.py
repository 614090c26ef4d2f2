"""buildah as the other builder: in directories of its own, without containers' runtimes."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.build.corpus import Case
from tests.build.flatten import Tree, described


@dataclass(frozen=True, slots=True)
class Buildah:
    """*directory* has to be short: sockets lie below it."""

    directory: Path

    def __call__(self, *arguments: str | Path) -> str:
        environ = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",  # needs no cgroups and no runtime
            "HOME": str(self.directory),
            "XDG_RUNTIME_DIR": str(self.directory),
            "XDG_CONFIG_HOME": str(self.directory),
        }
        storage = ["--root", self.directory / "root", "--runroot", self.directory / "run"]
        command = ["buildah", *map(str, storage), "--storage-driver", "vfs", *map(str, arguments)]
        result = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stdout}{result.stderr}")
        return result.stdout

    def prepare(self, base: Path) -> None:
        """Load the archive *base* as the image `busybox`."""
        policy = self.directory / "containers/policy.json"
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        image = self("pull", "--quiet", f"oci-archive:{base}").strip()
        self("tag", image, "localhost/busybox:latest")

    def build(
        self, case: Case, archive: Path, base: tuple[dict[str, Any], list[Tree]]
    ) -> dict[str, Any]:
        """Build *case* by way of *archive*; return what the image is, without its differences."""
        flags = ("--quiet", "--pull-never", "--identity-label=false", "--format", "docker")
        self("build", *flags, *case.given(), "--tag", "case", case.context)
        self("push", "--quiet", "case", f"oci-archive:{archive}")
        found = described(archive, base)
        # What docker's format alone has is lost on the way to the archive.
        docker = json.loads(self("inspect", "--type", "image", "case"))["Docker"]["config"]
        found["config"] |= {
            k: docker[k] for k in ("Healthcheck", "OnBuild", "Shell") if docker.get(k)
        }
        return case.without_differences(found)

"""The corpus: small Dockerfiles that together use every instruction and every flag.

`corpus/NAME/context` is the context. `case.json`, where there is one, has

    arguments     further ones of the command; @ is the context
    buildah       false where buildah 1.28 lacks something: the expectation was written by hand
    differences   what buildah does otherwise than BuildKit, by field or path, and why

`expected.json` is what has to come of it: buildah's result, with the differences taken out.
`python -m tests.build.make_expectations` makes it anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The base has a PATH: buildah gives one to every image without.
IMPORT = (
    "import",
    "-q",
    "-c",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
EVERYWHERE = dict.fromkeys(
    ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"),
    "buildah leaves the empty files that it mounts on",
)
CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    directory: Path
    arguments: tuple[str, ...] = ()
    buildah: bool = True
    differences: dict[str, str] = field(default_factory=dict)

    @property
    def context(self) -> Path:
        return self.directory / "context"

    @property
    def expected(self) -> Path:
        return self.directory / "expected.json"

    def given(self) -> list[str]:
        return [argument.replace("@", str(self.context)) for argument in self.arguments]

    def without_differences(self, described: dict[str, Any]) -> dict[str, Any]:
        """What of a description both tools have to agree on."""
        different = EVERYWHERE | self.differences
        config = {k: v for k, v in described["config"].items() if k not in different}
        tree = {k: v for k, v in described["tree"].items() if k not in different}
        return {"config": config, "tree": {} if "tree" in self.differences else tree}


def cases() -> list[Case]:
    found = []
    for directory in sorted(path for path in CORPUS.iterdir() if path.is_dir()):
        path = directory / "case.json"
        said = json.loads(path.read_text()) if path.exists() else {}
        found.append(
            Case(
                directory.name,
                directory,
                tuple(said.get("arguments", ())),
                said.get("buildah", True),
                said.get("differences", {}),
            )
        )
    return found

"""`python -m tests.build.make_expectations [NAME…]`: write the corpus's expectations anew.

buildah makes them where it can, and sbx the others, which are to be looked at with `git diff`.
To be run as an ordinary user who may write the corpus.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import rootfs
from tests.build.buildah import Buildah
from tests.build.corpus import IMPORT, Case, cases
from tests.build.flatten import Tree, described, read_image
from tests.sbx_command import Sbx, remove_tree


def main(names: list[str]) -> int:
    program = rootfs.busybox()
    assert program is not None
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="b-"))
    try:
        rootfs.write_busybox_tar(program, directory / "busybox.tar")
        with Sbx.in_private_directories(cache=directory / "cache") as sbx:
            base = directory / "base.tar"
            sbx(*IMPORT, directory / "busybox.tar", "busybox", check=True)
            sbx("save", "-o", base, "busybox", check=True)
            buildah = Buildah(directory / "h")
            buildah.directory.mkdir()
            buildah.prepare(base)
            known = read_image(base)
            for case in cases():
                if names and case.name not in names:
                    continue
                archive = directory / f"{case.name}.tar"
                try:
                    if case.buildah:
                        found = buildah.build(case, archive, known)
                    else:
                        found = _by_sbx(sbx, case, archive, known)
                except RuntimeError as err:
                    print(f"{case.name}: {err}")
                    continue
                text = json.dumps(found, indent=2, ensure_ascii=False)
                case.expected.write_text(text + "\n")
                print(case.name, flush=True)
    finally:
        remove_tree(directory)
    return 0


def _by_sbx(
    sbx: Sbx, case: Case, archive: Path, base: tuple[dict[str, Any], list[Tree]]
) -> dict[str, Any]:
    output = f"type=oci,dest={archive}"
    sbx("build", "-q", *case.given(), "-o", output, case.context, check=True)
    return described(archive, base)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""An image of this machine's own Python: interpreter, standard library, shared libraries.

The kernel's overlay can't stand on the host's root (its upper directory would lie below its lower),
so that comparing the drivers takes an image.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from bench.ground import Ground

IMAGE = "bench-python"
PYTHON = Path("/usr/bin/python3")
# Where usrmerge has put them: /bin -> usr/bin and so on.
LINKS = ("bin", "lib", "lib64", "sbin")


def make(ground: Ground) -> None:
    """Import it into sbx's store."""
    archive = ground.path / "python.tar"
    with tarfile.open(archive, "w") as tar:
        for name in LINKS:
            link = Path("/", name)
            if link.is_symlink():
                tar.add(link, name)
        for path in _files():
            tar.add(path, str(path).lstrip("/"))
    ground.run(ground.sbx("import", str(archive), IMAGE))
    archive.unlink()


def _files() -> list[Path]:
    interpreter = PYTHON.resolve()
    library = Path("/usr/lib", interpreter.name)
    binaries = [interpreter, *(library / "lib-dynload").glob("*.so")]
    return [PYTHON, interpreter, library, *_shared_libraries(binaries)]


def _shared_libraries(binaries: list[Path]) -> list[Path]:
    """Return what ldd(1) finds, by the names that the loader uses and by the files' own."""
    text = subprocess.run(
        ["ldd", *map(str, binaries)], capture_output=True, text=True, check=False
    ).stdout
    words = (word for line in text.splitlines() for word in line.split() if word.startswith("/"))
    named = {_merged(Path(word.rstrip(":"))) for word in words} - set(binaries)
    return sorted(named | {path.resolve() for path in named})


def _merged(path: Path) -> Path:
    """Return *path* with its directory's links followed: /lib/… is /usr/lib/…"""
    return path.parent.resolve() / path.name

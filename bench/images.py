"""`python -m bench.images`: images beside podman: import, pull from loopback, listing.

The image is the host's own /usr/lib/python3 and /usr/share, up to 300 MB of real files.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.ground import Ground, ground
from bench.pairs import Contender, Table, by_turns
from tests.registries import registry

_SOURCES = ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/share", "/usr/lib/x86_64-linux-gnu")
_SIZE = 300 << 20
_IMAGES = 1000


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() == 0:
        print("bench: run this as an ordinary user (make bench-images does)", file=sys.stderr)
        return 1
    with ground() as place:
        archive = place.path / "large.tar"
        print(f"image: {_make_archive(archive) >> 20} MB\n", flush=True)
        for table in _tables(place, archive, arguments.rounds):
            print(table.to_text(), end="\n\n", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each (default 5)")
    return parser


def _make_archive(path: Path) -> int:
    """Write files of this machine until there is enough; return their bytes."""
    total = 0
    with tarfile.open(path, "w") as tar:
        for file in _readable_files():
            tar.add(file, filter=_of_root)
            total += file.stat().st_size
            if total >= _SIZE:
                break
    return total


def _readable_files() -> Iterator[Path]:
    for source in _SOURCES:
        for directory, _, names in os.walk(source):
            for file in (Path(directory, name) for name in sorted(names)):
                if file.is_file() and not file.is_symlink() and os.access(file, os.R_OK):
                    yield file


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


def _tables(place: Ground, archive: Path, rounds: int) -> list[Table]:
    new = _NewStores(place)
    imports = [
        new.podman("podman", "import", "-q", str(archive), "large"),
        new.sbx("sbx", "import", "-q", str(archive), "large"),
    ]
    found = [Table("import of a root file system", "ms", tuple(by_turns(imports, rounds)))]
    with registry(place.path / "registry") as host:
        name = f"{host}/large:1"
        place.run(place.sbx("import", "-q", str(archive), name))
        place.run(place.sbx("push", "-q", name))
        pulls = [
            new.podman("podman", "pull", "-q", "--tls-verify=false", name),
            new.sbx("sbx", "pull", "-q", name),
            new.skopeo("skopeo, which unpacks nothing", name),
        ]
        rows = tuple(by_turns(pulls, rounds))
        found.append(Table("pull from loopback, unpacked", "ms", rows))
    for number in range(_IMAGES):
        place.run(place.sbx("tag", name, f"many{number}"))
    listing = [place.contender("sbx", place.sbx("images", "-q"))]
    rows = tuple(by_turns(listing, rounds))
    return [*found, Table(f"list of {_IMAGES} names", "ms", rows)]


class _NewStores:
    """Commands that each find an empty store.

    Nothing is removed in between: for a minute after a removal ext4 looks long for inodes
    (fs/ext4/ialloc.c, recently_deleted), and whose turn it was would count more than who it was.
    """

    def __init__(self, place: Ground) -> None:
        self.place = place
        self._count = 0

    def _path(self) -> Path:
        self._count += 1
        return self.place.path / f"new{self._count}"

    def sbx(self, name: str, *arguments: str) -> Contender:
        def once() -> float:
            return self._timed(self.place.sbx(*arguments), XDG_DATA_HOME=str(self._path()))

        return Contender(name, once)

    def podman(self, name: str, *arguments: str) -> Contender:
        def once() -> float:
            path = self._path()
            storage = ["--root", str(path), "--runroot", f"{path}-run"]
            return self._timed(["podman", "--log-level=error", *storage, *arguments])

        return Contender(name, once)

    def skopeo(self, name: str, reference: str) -> Contender:
        def once() -> float:
            flags = ["--quiet", "--insecure-policy", "--src-tls-verify=false"]
            target = f"oci:{self._path()}"
            return self._timed(["skopeo", "copy", *flags, f"docker://{reference}", target])

        return Contender(name, once)

    def _timed(self, argv: Sequence[str], **environ: str) -> float:
        begin = time.perf_counter()
        self.place.run(argv, **environ)
        return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    sys.exit(main())

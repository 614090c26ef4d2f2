"""`python -m bench.builds`: a build beside buildah's: cold, warm, and with one changed file."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.ground import IMAGE, Ground, ground
from bench.pairs import Contender, Table, by_turns

_FILES = 200
_DOCKERFILE = f"""\
FROM {IMAGE} AS made
RUN i=0; while [ $i -lt 300 ]; do echo $i > /made$i; i=$((i+1)); done
COPY src /src
RUN cat /src/* > /all
FROM {IMAGE}
ENV A=1
COPY --from=made /all /all
COPY --from=made /src /src
RUN cat /all > /copy
CMD ["cat", "/copy"]
"""


@dataclass(frozen=True, slots=True)
class _Builder:
    """One tool: how it builds, and how it forgets all it knows."""

    name: str
    build: Callable[[], object]
    forget: Callable[[], object]
    caches: bool = True


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() == 0:
        print("bench: run this as an ordinary user (make bench-images does)", file=sys.stderr)
        return 1
    with ground() as place:
        for table in tables(place, arguments.rounds):
            print(table.to_text(), end="\n\n", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.builds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each (default 5)")
    return parser


def tables(place: Ground, rounds: int) -> list[Table]:
    """Measure. The first row is buildah's, where it works here."""
    context = place.path / "context"
    (context / "src").mkdir(parents=True)
    (context / "Dockerfile").write_text(_DOCKERFILE)
    for number in range(_FILES):
        (context / f"src/{number}").write_text(f"{number}\n" * 500)
    builders = [*_buildah(place, context), _sbx(place, context)]
    change = _Change(context / "src/7")
    cached = [b for b in builders if b.caches]

    def table(title: str, contenders: list[Contender]) -> Table:
        return Table(title, "ms", tuple(by_turns(contenders, rounds)), tuple(place.notes[-1:]))

    return [
        table("build, cold", [_after(b, b.forget) for b in builders]),
        table("build, warm", [_after(b, _nothing) for b in cached]),
        table("build, one changed file", [_after(b, change) for b in cached]),
    ]


def _after(builder: _Builder, prepare: Callable[[], object]) -> Contender:
    """Time a build alone, after *prepare*."""

    def once() -> float:
        prepare()
        begin = time.perf_counter()
        builder.build()
        return (time.perf_counter() - begin) * 1000

    return Contender(builder.name, once)


def _nothing() -> None:
    pass


@dataclass(slots=True)
class _Change:
    """Gives a file another content each time."""

    path: Path
    count: int = 0

    def __call__(self) -> None:
        self.count += 1
        self.path.write_text(f"{self.count}\n" * 500)


def _sbx(place: Ground, context: Path) -> _Builder:
    build = place.sbx("build", "-q", "-t", "made", str(context))
    forget = place.sbx("builder", "prune", "--all", "--force")
    return _Builder("sbx", lambda: place.run(build), lambda: place.run(forget))


def _buildah(place: Ground, context: Path) -> list[_Builder]:
    program = shutil.which("buildah")
    if program is None:
        place.notes.append("buildah is not installed")
        return []
    storage = ["--root", str(place.path / "buildah"), "--runroot", str(place.path / "buildah-run")]
    # vfs, its last resort, copies whole trees: nobody would measure himself against that.
    overlay = shutil.which("fuse-overlayfs")
    if overlay is not None:
        storage += ["--storage-driver", "overlay"]
        storage += ["--storage-opt", f"overlay.mount_program={overlay}"]
    base = [program, *storage]
    # Where it may not make cgroups it is taken without a runtime.
    environ = {"BUILDAH_ISOLATION": "chroot"}
    scratch = place.path / "scratch"
    scratch.mkdir()
    shutil.copy(place.path / "rootfs.tar", scratch / "rootfs.tar")
    (scratch / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
    place.run([*base, "build", "-q", "-t", IMAGE, str(scratch)], **environ)
    build = [*base, "build", "-q", "--layers", "--pull-never", "-t", "made", str(context)]

    def forget() -> None:
        for image in place.run([*base, "images", "-aq"], **environ).split():
            keep = place.run([*base, "images", "-q", IMAGE], **environ).split()
            if image not in keep:
                _try(place, [*base, "rmi", "--force", image], environ)

    place.run(build, **environ)
    driver = place.run([*base, "info"], **environ).partition('"GraphDriverName": "')[2]
    place.notes.append(f"buildah: chroot isolation, storage driver {driver.partition(chr(34))[0]}")
    at_once = [word for word in build if word != "--layers"]
    return [
        _Builder("buildah --layers", lambda: place.run(build, **environ), forget),
        _Builder("buildah", lambda: place.run(at_once, **environ), forget, caches=False),
    ]


def _try(place: Ground, command: list[str], environ: dict[str, str]) -> None:
    try:
        place.run(command, **environ)
    except RuntimeError:
        pass  # it went with another one


if __name__ == "__main__":
    sys.exit(main())

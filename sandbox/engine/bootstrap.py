"""`sbx image bootstrap`: a Debian root file system from its mirror, where no registry is reached.

mmdebstrap(1) runs as the user, in a user namespace of its own, and writes the tree as a tar that is
imported as it comes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from msgspec import Struct

from sandbox.errors import InvalidSpec, SbxError, Unavailable
from sandbox.image.content import CHUNK
from sandbox.image.names import name_for
from sandbox.image.reference import DEFAULT_TAG

PROGRAM = "mmdebstrap"
VARIANTS = ("minbase", "apt", "essential", "buildd", "important", "standard", "custom")
_MIRRORS = {
    "debian": "http://deb.debian.org/debian",
    "ubuntu": "http://archive.ubuntu.com/ubuntu",
}
_SLIM = "-slim"
# As Debian's own slim images: what nobody reads in a container.
_SLIM_OPTIONS = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")
)
# mmdebstrap leaves a copy of the machine's own.
_FORGET_MACHINE = '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"'
_PATIENCE = 10.0  # seconds that it gets to clean up


class Request(Struct, frozen=True):
    """What to make."""

    reference: str  # "debian:bookworm", "debian:bookworm-slim"
    mirror: str | None = None
    variant: str = "minbase"
    include: tuple[str, ...] = ()  # packages
    quiet: bool = False


def command_line(request: Request) -> list[str]:
    """Return the command that writes the tar to its standard output. Raises InvalidSpec."""
    name = name_for(request.reference)
    distribution = name.path.rpartition("/")[2]
    mirror = request.mirror or _MIRRORS.get(distribution)
    if mirror is None:
        raise InvalidSpec(
            f"where does {distribution} come from?",
            hint=f"name its mirror: sbx image bootstrap --mirror URL {request.reference}",
        )
    tag = name.tag or DEFAULT_TAG
    suite = tag.removesuffix(_SLIM)
    if suite == DEFAULT_TAG:
        if distribution != "debian":
            raise InvalidSpec(
                f"which release of {distribution}?",
                hint=f"name it as the tag: {distribution}:RELEASE",
            )
        suite = "stable"
    return [
        PROGRAM,
        *(["--quiet"] if request.quiet else []),
        f"--variant={request.variant}",
        *(_SLIM_OPTIONS if tag.endswith(_SLIM) else ()),
        *([f"--include={','.join(request.include)}"] if request.include else []),
        _FORGET_MACHINE,
        "--format=tar",
        "--",
        suite,
        "-",
        mirror,
    ]


def bootstrapped(request: Request, environ: Mapping[str, str]) -> Bootstrap:
    """Start making the tree. To be called before this process enters a namespace.

    Raises InvalidSpec, Unavailable.
    """
    argv = command_line(request)
    found = shutil.which(PROGRAM, path=environ.get("PATH"))
    if found is None:
        raise Unavailable(f"{PROGRAM} is not installed", hint=f"apt install {PROGRAM}")
    process = subprocess.Popen(
        [found, *argv[1:]],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    return Bootstrap(process)


class Bootstrap:
    """A tree being made: a context manager that ends the program, and its archive."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __enter__(self) -> Bootstrap:
        return self

    def __exit__(self, *exception: object) -> None:
        process = self._process
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        if process.poll() is None:
            process.kill()
            process.wait()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive. Raises SbxError at its end when the program failed."""
        assert self._process.stdout is not None
        read: Callable[[int], bytes] = self._process.stdout.read
        while data := read(CHUNK):
            yield data
        code = self._process.wait()
        if code:
            raise SbxError(
                f"{PROGRAM} failed (exit code {code})",
                detail="what it said is above",
                hint="it needs subordinate ids (sbx doctor) and reaches its mirror (--mirror URL)",
            )

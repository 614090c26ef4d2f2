"""The command ``sbx-fuse-overlay``: mount an overlay, in the background unless told otherwise."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from . import check
from .options import BadOption, Mount, parse

USAGE = """\
usage: sbx-fuse-overlay [-f] [-d] -o lowerdir=A[:B...][,upperdir=U,workdir=W][,OPTION...] MOUNTPOINT
       sbx-fuse-overlay --check UPPER WORK

  -f             stay in the foreground
  -d, --debug    the same, and log to the terminal
  --check        say what is wrong in an upper and its work directory (not mounted)
  -V, --version

Options are those of fuse-overlayfs(1): lowerdir upperdir workdir uidmapping gidmapping
squash_to_root squash_to_uid squash_to_gid xattr_permissions static_nlink volatile noacl, and
size= inodes= (quotas) redirect_dir=off writeback=0 timeout=.
"""


class Arguments:
    """What the command line says."""

    def __init__(self) -> None:
        self.foreground = False
        self.debug = False
        self.options: list[str] = []
        self.places: list[str] = []


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["--check"]:
        return check.main(words[1:])
    if set(words) & {"-h", "--help"}:
        print(USAGE, end="")
        return 0
    if set(words) & {"-V", "--version"}:
        print("sbx-fuse-overlay")
        return 0
    try:
        arguments = _arguments(words)
        mount = parse(arguments.options)
    except BadOption as err:
        print(f"sbx-fuse-overlay: {err}", file=sys.stderr)
        return 1
    if len(arguments.places) not in (1, 2):  # mount(8) names a source first
        print(USAGE, end="", file=sys.stderr)
        return 1
    return _mount(mount, arguments)


def _arguments(words: list[str]) -> Arguments:
    found = Arguments()
    rest = iter(words)
    for word in rest:
        if word == "-o":
            found.options.append(next(rest, ""))
        elif word.startswith("-o"):
            found.options.append(word[2:])
        elif word == "-f":
            found.foreground = True
        elif word in ("-d", "--debug"):
            found.foreground = found.debug = True
        elif word.startswith("-") and word != "-s":
            raise BadOption(f"unknown argument: {word}")
        elif word != "-s":
            found.places.append(word)
    return found


def _mount(mount: Mount, arguments: Arguments) -> int:
    mountpoint = os.path.abspath(arguments.places[-1])
    if arguments.foreground:
        return _serve(mount, mountpoint, None)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _daemon(mount, mountpoint, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        return 0 if pipe.read() == b"mounted" else 1


def _daemon(mount: Mount, mountpoint: str, ready: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        code = _serve(mount, mountpoint, ready)
    finally:
        os._exit(code)


def _serve(mount: Mount, mountpoint: str, ready: int | None) -> int:
    """Mount and serve; *ready* is told when the mount is there."""
    from . import server

    def mounted() -> None:
        if ready is not None:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.write(ready, b"mounted")
            os.close(ready)
            os.chdir("/")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        server.serve_at(mount.config, mountpoint, _libfuse_options(mount), ready=mounted)
    except (OSError, ValueError, RuntimeError) as err:
        print(f"sbx-fuse-overlay: {mountpoint}: {err}", file=sys.stderr)
        return 1
    return 0


def _stop(number: int, frame: object) -> NoReturn:
    """End the loop: the mount is taken down on the way out."""
    raise SystemExit(0)


def _libfuse_options(mount: Mount) -> set[str]:
    """As fuse-overlayfs: the kernel checks permissions, for all users if possible."""
    options = {"default_permissions", "noatime", *mount.options}
    if os.geteuid() == 0:
        options |= {"allow_other"}
        if not options & {"nosuid"}:
            options.add("suid")
    if not any(option.startswith("fsname=") for option in options):
        options.add("fsname=sbx-fuse-overlay")
    return options


if __name__ == "__main__":
    sys.exit(main())

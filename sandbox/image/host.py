"""The built-in image `host`: the machine's own root, read-only, without what is somebody's.

Shown is what makes up an operating system, nothing else: a list of what to hide would miss what the
next administrator adds. Hidden directories appear empty, hidden files not at all. docs/images.md
gives the reasons; the overlay keeps hidden paths unreachable by any name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from sandbox.paths import Paths

# Package managers' databases, and what packages register when they are installed.
_DATABASES = ("alternatives", "apt", "dnf", "dpkg", "pacman", "pam", "rpm", "ucf")
_REGISTERED = ("binfmts", "dictionaries-common", "emacsen-common", "gems", "ghostscript", "ispell")
_REGISTERED_TOO = ("misc", "python", "sgml-base", "texmf", "vim", "xkb", "xml-core")
_PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "usr", "opt")
# What is shown of these directories; of everything else shown here, all.
_SHOWN = {
    "/": frozenset((*_PROGRAMS, "etc", "var", "nix", "gnu")),
    "/var": frozenset(("lib", "cache")),
    "/var/lib": frozenset((*_DATABASES, *_REGISTERED, *_REGISTERED_TOO)),
    "/var/cache": frozenset(("apt", "debconf", "dictionaries-common", "fontconfig", "man")),
}
# proc(5), machine-id(5): "should be considered confidential".
_HIDDEN_FILES = ("/etc/machine-id", "/etc/ssh", "/etc/sbx")
# Mounts are hidden, whoever made them, but for the places where distributions put partitions.
_PARTITIONS = frozenset(
    {"/", "/usr", "/usr/local", "/var", "/var/lib", "/var/cache", "/opt", "/etc"}
)
_NOT_HOMES = frozenset(
    {"/", "/nonexistent", *_PARTITIONS, "/bin", "/sbin", "/usr/bin", "/usr/sbin"}
)
_FIRST_USER = 1000


def hidden_paths(paths: Paths, home: str) -> tuple[str, ...]:
    """Return what the built-in image hides of this machine's root, none below another."""
    candidates = [
        *_not_shown(),
        *_HIDDEN_FILES,
        *_homes(home),
        *_mount_points(),
        *map(os.path.realpath, (paths.data, paths.runtime, paths.config, paths.cache)),
    ]
    return _outermost(candidates)


def _not_shown() -> Iterator[str]:
    for directory, shown in _SHOWN.items():
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            # A link such as /var/run shows where it leads, not what is there.
            if name not in shown and not os.path.islink(path):
                yield path


def _homes(home: str) -> Iterator[str]:
    """Yield the homes of all people, wherever they are."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split(":") for line in file]
    except OSError:
        lines = []
    found = [f[5] for f in lines if len(f) > 6 and f[2].isdigit() and int(f[2]) >= _FIRST_USER]
    for directory in (*found, home):
        if directory.startswith("/"):
            real = os.path.realpath(directory)
            if real not in _NOT_HOMES:
                yield real


def _mount_points() -> Iterator[str]:
    """Yield what is mounted somewhere below the root (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            point = os.fsdecode(_unescape(line.split(b" ")[4]))
            if point not in _PARTITIONS:
                yield point


def _unescape(field: bytes) -> bytes:
    """Replace the octal escapes of space, tab, newline and backslash."""
    for escape, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(escape, byte)
    return field


def _outermost(candidates: Iterable[str]) -> tuple[str, ...]:
    # Sorted with the slash before all else, whatever is below a path follows it directly.
    kept: list[str] = []
    above = "\0"
    paths = {os.path.normpath(c) for c in candidates} - {"/"}
    for path in sorted(paths, key=lambda path: path.replace("/", "\0")):
        if not path.startswith(above):
            kept.append(path)
            above = path + "/"
    return tuple(kept)

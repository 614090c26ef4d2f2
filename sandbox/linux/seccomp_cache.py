"""Compiled seccomp programs on disk, by everything that they were made from.

An entry holds its whole key, profile included, so that nothing depends on a digest: a file that is
damaged, from another version, or writable by others is as good as none. Loading one takes 0.1 ms
and no library.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from pathlib import Path

from sandbox.errors import Unavailable
from sandbox.linux.seccomp_syscalls import LIBRARY
from sandbox.paths import make_private

_MAGIC = b"sbx-bpf\x01"
_HEADER = struct.Struct("<8sIII")  # magic, lengths of key and program, CRC-32 of both
_MAX_ENTRY = 4 << 20
_MAX_ENTRIES = 64


def library_identity() -> str:
    """Return what tells this libseccomp from another version, without loading it."""
    machine = os.uname().machine
    directories = (f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
    for directory in directories:
        path = Path(directory, LIBRARY)
        try:
            status = path.stat()
        except OSError:
            continue
        return f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"
    return "unknown"


def entry_path(directory: Path, key: bytes) -> Path:
    """Return where the program for *key* is. Two keys may share a path; then one is made anew."""
    return directory / f"{zlib.crc32(key):08x}-{len(key)}.bpf"


def load(directory: Path, key: bytes) -> bytes | None:
    """Return the program stored for *key*, or None."""
    try:
        fd = os.open(entry_path(directory, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not _trusted(os.fstat(fd)):
            return None
        return _decode(file.read(_MAX_ENTRY), key)


def store(directory: Path, key: bytes, program: bytes) -> None:
    """Keep *program* for *key*, if the directory can be written: a cache may fail."""
    content = _HEADER.pack(_MAGIC, len(key), len(program), _checksum(key, program)) + key + program
    path = entry_path(directory, key)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError, Unavailable):
        make_private(directory)
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _prune(directory)


def _trusted(status: os.stat_result) -> bool:
    """Only this user can have written the file."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _decode(content: bytes, key: bytes) -> bytes | None:
    if len(content) < _HEADER.size:
        return None
    magic, key_length, program_length, checksum = _HEADER.unpack_from(content)
    if magic != _MAGIC or len(content) != _HEADER.size + key_length + program_length:
        return None
    stored_key = content[_HEADER.size : _HEADER.size + key_length]
    program = content[_HEADER.size + key_length :]
    if stored_key != key or checksum != _checksum(key, program):
        return None
    return program


def _checksum(key: bytes, program: bytes) -> int:
    return zlib.crc32(program, zlib.crc32(key))


def _prune(directory: Path) -> None:
    """Drop the oldest entries: every edit of a profile leaves one behind."""
    entries = sorted(directory.glob("*.bpf*"), key=lambda entry: entry.stat().st_mtime)
    for entry in entries[:-_MAX_ENTRIES]:
        entry.unlink(missing_ok=True)

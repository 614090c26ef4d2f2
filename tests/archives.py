"""Tar archives for tests, made with the standard library's tarfile."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable


class Archive:
    """An archive being made: its methods return it, so that it reads as a list of entries."""

    def __init__(self, format: int = tarfile.PAX_FORMAT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=format)  # noqa: SIM115

    def file(self, name: str, content: bytes = b"", **attributes: object) -> Archive:
        return self._add(name, tarfile.REGTYPE, content, **attributes)

    def directory(self, name: str, **attributes: object) -> Archive:
        return self._add(name, tarfile.DIRTYPE, **({"mode": 0o755} | attributes))

    def symlink(self, name: str, target: str, **attributes: object) -> Archive:
        return self._add(name, tarfile.SYMTYPE, linkname=target, **attributes)

    def hard_link(self, name: str, target: str, **attributes: object) -> Archive:
        return self._add(name, tarfile.LNKTYPE, linkname=target, **attributes)

    def fifo(self, name: str, **attributes: object) -> Archive:
        return self._add(name, tarfile.FIFOTYPE, **attributes)

    def device(self, name: str, major: int, minor: int, **attributes: object) -> Archive:
        numbers = {"devmajor": major, "devminor": minor}
        return self._add(name, tarfile.CHRTYPE, **numbers, **attributes)

    def _add(self, name: str, kind: bytes, content: bytes = b"", **attributes: object) -> Archive:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = len(content)
        info.mode = 0o644
        for attribute, value in attributes.items():
            setattr(info, attribute, value)
        self._tar.addfile(info, io.BytesIO(content))
        return self

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def rootfs(message: str = "hello") -> bytes:
    """A small root file system that nothing can run in."""
    return (
        Archive()
        .directory("etc")
        .file("etc/motd", message.encode())
        .symlink("etc/link", "motd")
        .hard_link("etc/hard", "etc/motd")
        .bytes()
    )


def chunked(data: bytes, size: int = 1000) -> Callable[[], list[bytes]]:
    """Return *data* in pieces of *size* bytes, as a stream would give them."""
    return lambda: [data[at : at + size] for at in range(0, len(data), size)]

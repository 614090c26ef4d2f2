"""What the name of an image means: `debian`, `ghcr.io/a/b:1`, `name@sha256:…`.

The grammar is that of the distribution project (github.com/distribution/reference); names without
a registry mean docker.io, names without a path there its `library/`, as docker has it.
"""

from __future__ import annotations

import re

from msgspec import Struct

from sandbox.errors import InvalidSpec

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_LIBRARY = "library/"
_MOST_NAME_BYTES = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{64}")


class Reference(Struct, frozen=True):
    """An image's name in full."""

    registry: str  # "docker.io", "localhost:5000"
    path: str  # "library/debian"
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Return the name in full without tag and digest: `docker.io/library/debian`."""
        return f"{self.registry}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """Return the name as people write it: `debian`."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        rest = self.path.removeprefix(_LIBRARY)
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def parse_reference(text: str) -> Reference:
    """Return what *text* means, with `latest` where neither tag nor digest is said.

    Raises InvalidSpec.
    """
    if _ID.fullmatch(text):
        raise _invalid(text, "64 hexadecimal digits are an image's id, not a name")
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, "a digest is written sha256: and 64 hexadecimal digits")
    rest, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, "a tag is up to 128 letters, digits, '_', '.' and '-'")
    registry, path = _split_registry(rest)
    if not _DOMAIN.fullmatch(registry):
        raise _invalid(text, "the registry is not a host name")
    if not _PATH.fullmatch(path) or len(registry) + 1 + len(path) > _MOST_NAME_BYTES:
        upper = path != path.lower()
        raise _invalid(text, "the name must be lowercase" if upper else None)
    return Reference(registry, path, tag or (None if at else DEFAULT_TAG), digest or None)


def is_digest(text: str) -> bool:
    """Return whether *text* is a digest that this store keeps (sha256 alone)."""
    return _DIGEST.fullmatch(text) is not None


def _split_tag(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    # A colon before the last slash belongs to the registry's port.
    if not colon or "/" in tail:
        return text, None
    return head, tail


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        if first in ("index.docker.io", "registry-1.docker.io"):
            first = DEFAULT_REGISTRY
        if first == DEFAULT_REGISTRY and "/" not in rest:
            rest = _LIBRARY + rest
        return first, rest
    return DEFAULT_REGISTRY, name if slash else _LIBRARY + name


def _invalid(text: str, detail: str | None) -> InvalidSpec:
    return InvalidSpec(
        f"invalid image reference {text!r}",
        detail=detail,
        hint="write NAME[:TAG] as in debian:bookworm or registry.example/team/app:1",
    )

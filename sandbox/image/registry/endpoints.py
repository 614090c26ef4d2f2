"""Where to ask for an image: registries.conf as podman reads it, containers-registries.conf(5).

Read are the user's file, else the machine's, and the files of `registries.conf.d` beside them.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from msgspec import Struct

from sandbox.errors import InvalidSpec, StoreError
from sandbox.image.reference import DEFAULT_REGISTRY, Reference

_HUB = "registry-1.docker.io"


class Endpoint(Struct, frozen=True):
    """A registry's address and the repository there."""

    host: str  # host[:port]
    repository: str
    insecure: bool = False  # plain HTTP, and certificates that nobody vouches for, are accepted

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


def endpoints(reference: Reference, environ: Mapping[str, str]) -> list[Endpoint]:
    """Return where *reference* may be pulled from: mirrors first, the registry itself last.

    Raises StoreError when the configuration forbids the registry.
    """
    rule = _rule_for(reference.name, _registries(environ))
    if rule.get("blocked") is True:
        raise StoreError(
            f"registry {reference.registry} is blocked", detail="registries.conf says so"
        )
    prefix = rule.get("prefix") or rule.get("location") or ""
    rest = reference.name.removeprefix(prefix) if prefix else ""
    places = [*rule.get("mirror", []), rule] if rule else []
    found = []
    for place in places:
        location = place.get("location") or prefix
        if location:
            found.append(_endpoint(f"{location}{rest}", place.get("insecure") is True))
    return found or [_endpoint(reference.name, insecure=False)]


def own_endpoint(reference: Reference, environ: Mapping[str, str]) -> Endpoint:
    """Return the registry itself: what is pushed goes there, never to a mirror."""
    return endpoints(reference, environ)[-1]


def _endpoint(name: str, insecure: bool) -> Endpoint:
    host, _, repository = name.partition("/")
    insecure = insecure or is_loopback(host)
    return Endpoint(_HUB if host == DEFAULT_REGISTRY else host, repository, insecure)


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine; docker takes registries there as they are."""
    bare = host.removeprefix("[").partition("]")[0] if "[" in host else host.partition(":")[0]
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _rule_for(name: str, registries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the entry with the longest prefix of *name*; an empty one for none."""
    best: dict[str, Any] = {}
    for registry in registries:
        prefix = registry.get("prefix") or registry.get("location") or ""
        longest = len(best.get("prefix") or best.get("location") or "")
        if prefix and (name == prefix or name.startswith(prefix + "/")) and len(prefix) > longest:
            best = registry
    return best


def _registries(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for path in _files(environ):
        try:
            with open(path, "rb") as file:
                value = tomllib.load(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as err:
            raise InvalidSpec(f"can't read {path}", detail=str(err)) from err
        found = value.get("registry", [])
        for entry in found if isinstance(found, list) else [None]:
            if not _is_registry(entry):
                raise InvalidSpec(
                    f"can't read {path}",
                    detail=f"[[registry]]: {entry!r:.200}",
                    hint="man containers-registries.conf",
                )
            entries[str(entry.get("prefix") or entry.get("location"))] = entry
    return list(entries.values())


def _is_registry(entry: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether *entry* has the types of a [[registry]]; its mirrors as well."""
    if not isinstance(entry, dict):
        return False
    mirrors = entry.get("mirror", [])
    return (
        all(isinstance(entry.get(key, ""), str) for key in ("prefix", "location"))
        and isinstance(mirrors, list)
        and all(isinstance(m, dict) and isinstance(m.get("location", ""), str) for m in mirrors)
    )


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files, what is to win last."""
    if chosen := environ.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(chosen)
        return
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    own, machine = Path(base) / "containers", Path("/etc/containers")
    yield (own if (own / "registries.conf").exists() else machine) / "registries.conf"
    for directory in (machine, own):
        yield from sorted((directory / "registries.conf.d").glob("*.conf"))

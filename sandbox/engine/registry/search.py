"""Searching a registry: docker hub's `/v1/search`, and elsewhere the catalog of all repositories.

The catalog (distribution project, "Listing Repositories") has names alone, and few registries give
it to everybody; it is looked through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urljoin

from msgspec import Struct

from sandbox.engine.registry.loop import run_trio
from sandbox.engine.registry.session import RegistryError, Session, open_session
from sandbox.errors import NotFound
from sandbox.image import document
from sandbox.image.reference import DEFAULT_REGISTRY, Reference
from sandbox.image.registry import credentials
from sandbox.image.registry.endpoints import Endpoint, own_endpoint

_HUB = "index.docker.io"
_MOST_NAMES = 1_000_000


class Hit(Struct, frozen=True):
    """One repository that was found."""

    name: str  # as it is pulled
    description: str = ""
    stars: int = 0
    official: bool = False


def split_term(text: str) -> tuple[str, str]:
    """Return the registry and what to look for there: `localhost:5000/app` names both."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DEFAULT_REGISTRY, text


def search(text: str, limit: int, environ: Mapping[str, str]) -> list[Hit]:
    """Return up to *limit* repositories that *text* leads to. Raises NotFound, StoreError."""
    registry, term = split_term(text)
    endpoint = own_endpoint(Reference(registry, ""), environ)
    if registry == DEFAULT_REGISTRY:
        endpoint = Endpoint(_HUB, "", endpoint.insecure)
    secret = credentials.find(registry, environ)
    prefix = "" if registry == DEFAULT_REGISTRY else f"{registry}/"

    async def ask() -> list[Hit]:
        async with open_session(endpoint, secret) as session:
            try:
                return await _search(session, term, limit, prefix)
            except (NotFound, RegistryError):
                if registry == DEFAULT_REGISTRY:
                    raise
            return await _look_through(session, term, limit, prefix)

    return run_trio(ask)


async def _search(session: Session, term: str, limit: int, prefix: str) -> list[Hit]:
    url = f"{session.base}/v1/search?q={quote(term, safe='')}&n={limit}"
    response = await session.request("GET", url, scope="")
    session.check(response, "search")
    value = document.parse_object(response.content, "result of the search")
    results = document.objects(value.get("results"), "result of the search")
    return [_hit(item, prefix) for item in results[:limit]]


def _hit(item: dict[str, Any], prefix: str) -> Hit:
    stars = item.get("star_count")
    return Hit(
        prefix + document.text(item.get("name"), "result of the search"),
        document.text(item.get("description"), "result of the search"),
        stars if isinstance(stars, int) else 0,
        item.get("is_official") is True,
    )


async def _look_through(session: Session, term: str, limit: int, prefix: str) -> list[Hit]:
    url = f"{session.base}/v2/_catalog?n=1000"
    found: list[Hit] = []
    seen = 0
    while len(found) < limit and seen < _MOST_NAMES:
        response = await session.request("GET", url, scope="registry:catalog:*")
        session.check(response, "the list of repositories")
        value = document.parse_object(response.content, "list of repositories")
        names = document.texts(value.get("repositories"), "list of repositories")
        found += [Hit(prefix + name) for name in names if term in name]
        seen += len(names) + 1
        following = response.links.get("next", {}).get("url")
        if not following:
            break
        url = urljoin(url, following)
    return found[:limit]

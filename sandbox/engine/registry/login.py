"""Asking a registry whether it knows the user."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.engine.registry.loop import run_trio
from sandbox.engine.registry.session import open_session
from sandbox.image.reference import Reference
from sandbox.image.registry.credentials import Credentials
from sandbox.image.registry.endpoints import own_endpoint


def check(registry: str, credentials: Credentials, environ: Mapping[str, str]) -> None:
    """Raise StoreError when *registry* does not take *credentials*."""
    endpoint = own_endpoint(Reference(registry, ""), environ)

    async def ask() -> None:
        async with open_session(endpoint, credentials) as session:
            response = await session.request("GET", f"{session.base}/v2/", scope="")
            session.check(response, "login")

    run_trio(ask)

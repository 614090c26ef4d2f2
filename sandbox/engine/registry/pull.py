"""Pulling: documents and layers, each verified while it streams, layers applied as they come."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

import httpx
import trio
from msgspec import Struct
from msgspec.structs import replace

from sandbox.engine.registry.loop import run_trio
from sandbox.engine.registry.progress import Progress
from sandbox.engine.registry.session import (
    RegistryError,
    Session,
    TryAgain,
    again,
    open_session,
)
from sandbox.errors import NotFound, SbxError, StoreError
from sandbox.image import document
from sandbox.image.config import ConfigDocument
from sandbox.image.content import CHUNK, BlobWriter
from sandbox.image.descriptor import INDEXES, MANIFESTS, Descriptor, Platform
from sandbox.image.image import Image
from sandbox.image.manifest import Manifest, parse_index, parse_manifest, read_config
from sandbox.image.platform import choose
from sandbox.image.reference import Reference, is_digest, parse_reference
from sandbox.image.registry import credentials
from sandbox.image.registry.endpoints import endpoints, own_endpoint
from sandbox.image.store import Store

_AT_ONCE = 3  # as docker
_MOST_TAGS = 100_000
_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))


class Pulled(Struct, frozen=True):
    """What a pull came to."""

    image: Image
    reference: Reference
    digest: str  # of what the registry has under the name
    newer: bool  # it was not there before


def pull(
    store: Store,
    reference: Reference,
    platform: Platform,
    environ: Mapping[str, str],
    progress: Progress,
) -> Pulled:
    """Fetch an image into the store and unpack it. Raises NotFound, StoreError."""
    secret = credentials.find(reference.registry, environ)
    failures: list[SbxError] = []
    with store.adding():
        for endpoint in endpoints(reference, environ):
            own = endpoint == own_endpoint(reference, environ)

            async def attempt() -> Pulled:
                async with open_session(endpoint, secret if own else None) as session:  # noqa: B023
                    return await _Pull(store, reference, platform, session, progress).carry_out()

            try:
                return run_trio(attempt)
            except (NotFound, StoreError) as err:
                failures.append(err)
    raise failures[-1]


def tags(reference: Reference, environ: Mapping[str, str]) -> list[Reference]:
    """Return a reference for each tag of the repository. Raises NotFound, StoreError."""
    secret = credentials.find(reference.registry, environ)

    async def ask() -> list[str]:
        async with open_session(own_endpoint(reference, environ), secret) as session:
            return await _list_tags(session)

    names = run_trio(ask)
    return [parse_reference(f"{reference.name}:{name}") for name in names]


async def _list_tags(session: Session) -> list[str]:
    """Follow the pages of the list (distribution specification, "Listing Tags")."""
    url = session.url("tags/list?n=1000")
    found: list[str] = []
    while len(found) < _MOST_TAGS:
        response = await session.request("GET", url)
        session.check(response, "list of tags")
        value = document.parse_object(response.content, "list of tags")
        found += document.texts(value.get("tags"), "list of tags")
        following = response.links.get("next", {}).get("url")
        if not following:
            return found
        url = urljoin(url, following)
    raise RegistryError("list of tags refused", detail=f"more than {_MOST_TAGS} tags")


class _Pull:
    """One image from one registry."""

    def __init__(
        self,
        store: Store,
        reference: Reference,
        platform: Platform,
        session: Session,
        progress: Progress,
    ) -> None:
        self.store = store
        self.blobs = store.blobs
        self.reference = reference
        self.platform = platform
        self.session = session
        self.progress = progress

    async def carry_out(self) -> Pulled:
        named = await self._document(self.reference.digest or self.reference.tag or "latest", None)
        top = replace(named, platform=self.platform)
        manifest = await self._manifest(top)
        config = await self._config(manifest)
        await self._layers(manifest, config)
        newer = not any(
            e.digest == top.digest and e.ref_name == str(self.reference)
            for e in self.store.layout.entries()
        )
        if manifest.descriptor.digest == top.digest:
            top = replace(top, platform=config.platform)
        self.store.name(top, self.reference)
        return Pulled(self.store.find(str(self.reference)), self.reference, top.digest, newer)

    async def _document(self, name: str, expected: Descriptor | None) -> Descriptor:
        """Fetch a manifest or an index by tag or digest, and store it."""
        if expected and self.blobs.has(expected.digest):
            return expected
        url = self.session.url(f"manifests/{name}")
        response = await self.session.request("GET", url, headers={"Accept": _ACCEPT})
        self.session.check(response, self.reference.familiar)
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if expected:
            kind = expected.media_type
        if kind not in MANIFESTS | INDEXES:
            # A registry that does not say: the document itself does.
            value = document.parse_object(response.content, "manifest")
            kind = str(value.get("mediaType") or "")
            if kind not in MANIFESTS | INDEXES:
                raise RegistryError("manifest refused", detail=f"of type {kind[:100]!r}")
        wanted = expected.digest if expected else name if is_digest(name) else None
        with self.blobs.writer() as writer:
            writer.write(response.content)
            digest = writer.commit(expected=wanted, durable=True)
        return Descriptor(kind, digest, len(response.content))

    async def _manifest(self, descriptor: Descriptor) -> Manifest:
        for _ in range(4):
            data = self.blobs.read(descriptor.digest, "manifest")
            if descriptor.media_type not in INDEXES:
                return parse_manifest(descriptor, data)
            chosen = choose(parse_index(data), self.platform)
            await self._document(chosen.digest, chosen)
            descriptor = chosen
        raise StoreError("image index refused", detail="indexes nested too deep")

    async def _config(self, manifest: Manifest) -> ConfigDocument:
        if manifest.config.size > document.MOST_BYTES:
            raise StoreError("image configuration refused", detail="too large")
        await self._blob(manifest.config, quiet=True)
        return read_config(self.blobs, manifest)

    async def _layers(self, manifest: Manifest, config: ConfigDocument) -> None:
        """Fetch some layers at a time; apply them, one at a time, as they come."""
        fetching = trio.CapacityLimiter(_AT_ONCE)
        applying = trio.CapacityLimiter(2)
        # Layers may come twice, and one as several blobs that were packed differently.
        pairs = {
            (diff_id, layer.digest): layer
            for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True)
        }

        async def one(diff_id: str, layer: Descriptor) -> None:
            async with fetching:
                if self.store.layers.has(diff_id) and self.blobs.has(layer.digest):
                    self.progress.step(layer, "Already exists")
                    return
                await self._blob(layer)
            async with applying:
                await trio.to_thread.run_sync(self.store.layers.apply, diff_id, layer)
            self.progress.step(layer, "Pull complete")

        async with trio.open_nursery() as nursery:
            for (diff_id, _), layer in pairs.items():
                nursery.start_soon(one, diff_id, layer)

    async def _blob(self, blob: Descriptor, *, quiet: bool = False) -> None:
        """Fetch a blob into the store; what came before a failure is not asked for again."""
        if self.blobs.has(blob.digest):
            return
        if not quiet:
            self.progress.begin(blob, "Downloading")
        for attempt in range(2):
            with self.blobs.writer() as writer:
                await again(lambda: self._rest_of_blob(blob, writer, quiet))
                try:
                    writer.commit(expected=blob.digest)
                    return
                except StoreError:
                    # Corrupted on the way; once more from the start, then it is an error.
                    if attempt:
                        raise

    async def _rest_of_blob(self, blob: Descriptor, writer: BlobWriter, quiet: bool) -> None:
        headers = {"Accept-Encoding": "identity"}
        if writer.size:
            headers["Range"] = f"bytes={writer.size}-"
        url = self.session.url(f"blobs/{blob.digest}")
        async with self.session.stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                await response.aread()
                self.session.check(response, f"blob {blob.digest}")
            if response.status_code != 206 and writer.size:
                writer.restart()
            if not quiet:
                self.progress.restart(blob, writer.size)
            await self._receive(response, blob, writer, quiet)
        if writer.size < blob.size:
            raise TryAgain("the transfer ended too early")

    async def _receive(
        self, response: httpx.Response, blob: Descriptor, writer: BlobWriter, quiet: bool
    ) -> None:
        """Write the body in pieces of a megabyte; what came before a failure is written too."""
        piece = bytearray()
        try:
            async for chunk in response.aiter_raw():
                if writer.size + len(piece) + len(chunk) > blob.size:
                    raise StoreError("blob refused", detail=f"larger than {blob.size} bytes")
                piece += chunk
                if not quiet:
                    self.progress.advance(blob, len(chunk))
                if len(piece) >= CHUNK:
                    data, piece = bytes(piece), bytearray()
                    await trio.to_thread.run_sync(writer.write, data)
        finally:
            writer.write(bytes(piece))

"""Pushing: what the registry has is skipped or mounted, the rest is uploaded in pieces."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import urljoin, urlsplit

import httpx
import trio
from msgspec import Struct

from sandbox.engine.registry.loop import run_trio
from sandbox.engine.registry.progress import Progress
from sandbox.engine.registry.session import (
    TRIES,
    RegistryError,
    Session,
    TryAgain,
    again,
    open_session,
    registry_message,
)
from sandbox.image.descriptor import Descriptor
from sandbox.image.manifest import Manifest
from sandbox.image.reference import Reference, parse_reference
from sandbox.image.registry import credentials
from sandbox.image.registry.endpoints import own_endpoint
from sandbox.image.store import Store

_AT_ONCE = 3
_READ = 256 << 10
_PIECE = 32 << 20  # some registries refuse larger requests, all take one of this size


class Pushed(Struct, frozen=True):
    """What the registry has under the name now."""

    digest: str
    size: int


def push(
    store: Store, reference: Reference, environ: Mapping[str, str], progress: Progress
) -> Pushed:
    """Upload an image of the store under its own name. Raises NotFound, StoreError."""
    secret = credentials.find(reference.registry, environ)
    endpoint = own_endpoint(reference, environ)
    with store.hold():
        manifest = store.manifest(str(reference))
        elsewhere = _other_repositories(store, reference)

        async def upload() -> Pushed:
            async with open_session(endpoint, secret, "pull,push") as session:
                task = _Push(store, reference, manifest, elsewhere, session, progress)
                return await task.carry_out()

        return run_trio(upload)


def _other_repositories(store: Store, reference: Reference) -> dict[str, str]:
    """Return for each layer a repository of the same registry that is likely to have it."""
    found: dict[str, str] = {}
    for image in store.list():
        for name in image.names:
            other = parse_reference(name)
            if other.registry == reference.registry and other.path != reference.path:
                for layer in store.manifest(name).layers:
                    found.setdefault(layer.digest, other.path)
    return found


class _Push:
    """One image to one repository."""

    def __init__(
        self,
        store: Store,
        reference: Reference,
        manifest: Manifest,
        elsewhere: Mapping[str, str],
        session: Session,
        progress: Progress,
    ) -> None:
        self.blobs = store.blobs
        self.reference = reference
        self.manifest = manifest
        self.elsewhere = elsewhere
        self.session = session
        self.progress = progress

    async def carry_out(self) -> Pushed:
        # Authenticate once, not once for each of the uploads that begin together.
        await self.session.request("HEAD", self.session.url(f"blobs/{self.manifest.config.digest}"))
        await self._all({layer.digest: layer for layer in self.manifest.layers}.values())
        await self._blob(self.manifest.config, quiet=True)
        return await self._manifest()

    async def _all(self, layers: Iterable[Descriptor]) -> None:
        limiter = trio.CapacityLimiter(_AT_ONCE)

        async def one(layer: Descriptor) -> None:
            async with limiter:
                await self._blob(layer)

        async with trio.open_nursery() as nursery:
            for layer in layers:
                nursery.start_soon(one, layer)

    async def _blob(self, blob: Descriptor, *, quiet: bool = False) -> None:
        found = await self.session.request("HEAD", self.session.url(f"blobs/{blob.digest}"))
        if found.status_code == 200:
            if not quiet:
                self.progress.step(blob, "Layer already exists")
            return
        location = await self._begin(blob)
        if location is None:
            if not quiet:
                self.progress.step(blob, f"Mounted from {self.elsewhere[blob.digest]}")
            return
        if not quiet:
            self.progress.begin(blob, "Pushing")
        for left in reversed(range(TRIES)):
            upload = _Upload(self.session, self.progress, blob, location, quiet)
            try:
                await upload.send(self.blobs.path(blob.digest))
                break
            except _Lost:
                if not left:
                    raise
                location = await self._begin(blob, mount=False) or ""
        if not quiet:
            self.progress.step(blob, "Pushed")

    async def _begin(self, blob: Descriptor, *, mount: bool = True) -> str | None:
        """Start an upload and return where it goes; None when the blob was mounted instead."""
        url = self.session.url("blobs/uploads/")
        other = self.elsewhere.get(blob.digest)
        if other and mount:
            query = f"{url}?mount={blob.digest}&from={other}"
            # Reading the other repository takes a right of its own.
            scope = f"{self.session.scope} repository:{other}:pull"
            response = await self.session.request("POST", query, scope=scope)
            if response.status_code == 201:
                return None
            if response.status_code == 202:
                return _location(response)
        response = await self.session.request("POST", url)
        self.session.check(response, "upload")
        return _location(response)

    async def _manifest(self) -> Pushed:
        descriptor = self.manifest.descriptor
        data = self.blobs.read(descriptor.digest, "manifest")
        name = self.reference.tag or descriptor.digest
        response = await self.session.request(
            "PUT",
            self.session.url(f"manifests/{name}"),
            headers={"Content-Type": descriptor.media_type},
            content=data,
        )
        self.session.check(response, "manifest")
        return Pushed(descriptor.digest, len(data))


class _Lost(RegistryError):
    """The upload has to begin anew: some registries give it up with the connection."""


class _Content(Struct, frozen=True):
    """A part of a file as a request's body, read while it is sent, and again when it is sent again.

    As bytes it would stay in memory with the request, which the client leaves to the collector.
    """

    descriptor: int
    begin: int
    size: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position, end = self.begin, self.begin + self.size
        while position < end:
            wanted = min(_READ, end - position)
            data = await trio.to_thread.run_sync(os.pread, self.descriptor, wanted, position)
            if not data:
                return  # cut short meanwhile: the client notices that too little was sent
            position += len(data)
            yield data


class _Upload:
    """One blob's upload (distribution specification, "Pushing a blob in chunks")."""

    def __init__(
        self, session: Session, progress: Progress, blob: Descriptor, location: str, quiet: bool
    ) -> None:
        self.session = session
        self.progress = progress
        self.blob = blob
        self.location = location
        self.quiet = quiet
        self.sent = 0

    async def send(self, path: str | os.PathLike[str]) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while self.sent < self.blob.size:
                await again(lambda: self._piece(descriptor))
        finally:
            os.close(descriptor)
        await again(self._finish)

    async def _piece(self, descriptor: int) -> None:
        size = min(_PIECE, self.blob.size - self.sent)
        if os.fstat(descriptor).st_size < self.sent + size:
            raise RegistryError("damaged layer", detail=f"{self.blob.digest} is cut short")
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{self.sent}-{self.sent + size - 1}",
        }
        data = _Content(descriptor, self.sent, size)
        try:
            async with self.session.stream(
                "PATCH", self.location, headers=headers, content=data
            ) as response:
                await response.aread()
        except TryAgain:
            await self._ask_how_much()
            raise
        if response.status_code == 416:
            await self._ask_how_much()
            raise TryAgain("the registry lost count")
        if response.status_code == 404:
            raise _Lost("the registry forgot the upload", detail=registry_message(response))
        self.session.check(response, "upload")
        self.location = _location(response)
        self.sent += size
        if not self.quiet:
            self.progress.advance(self.blob, size)

    async def _ask_how_much(self) -> None:
        """After a failure only the registry knows what arrived."""
        response = await self.session.request("GET", self.location)
        if response.status_code != 204:
            raise _Lost("the registry forgot the upload", detail=registry_message(response))
        self.location = _location(response)
        last = response.headers.get("range", "").rpartition("-")[2]
        if last.isdigit():
            # "0-0" is what registries say of nothing and of a single byte.
            self.sent = int(last) + 1 if int(last) else 0
            if not self.quiet:
                self.progress.restart(self.blob, self.sent)

    async def _finish(self) -> None:
        joint = "&" if urlsplit(self.location).query else "?"
        url = f"{self.location}{joint}digest={self.blob.digest}"
        async with self.session.stream("PUT", url, headers={"Content-Length": "0"}) as response:
            await response.aread()
        self.session.check(response, "upload")


def _location(response: httpx.Response) -> str:
    location = response.headers.get("location")
    if not location:
        raise RegistryError("the registry does not say where to upload")
    return urljoin(str(response.request.url), str(location))

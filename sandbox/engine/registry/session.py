"""One repository of one registry: requests with tokens, and patience with what fails.

A request that fails by the network, a 5xx or a 429 is tried again after a pause that doubles.
Authorization goes to the registry's own host and the token server it names, to nobody a redirect
leads to (httpx drops the header when the origin changes), nor to where an answer's link does.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
import trio
from msgspec import Struct, field

from sandbox import __version__
from sandbox.errors import NotFound, StoreError
from sandbox.image.document import MOST_BYTES, parse_object
from sandbox.image.registry.challenge import Challenge, parse_challenges
from sandbox.image.registry.credentials import Credentials
from sandbox.image.registry.endpoints import Endpoint

T = TypeVar("T")
TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_CERTIFICATES = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))


class RegistryError(StoreError):
    """The registry refused or could not be reached."""


class Denied(RegistryError):
    """The registry wants other credentials."""


class TryAgain(Exception):
    """A failure that may be gone the next time."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Session(Struct):
    """Requests about one repository."""

    endpoint: Endpoint
    client: httpx.AsyncClient
    credentials: Credentials | None
    actions: str = "pull"
    base: str = ""  # "https://host"
    _authorization: dict[str, str] = field(default_factory=dict)  # scope → header's value

    @property
    def scope(self) -> str:
        return f"repository:{self.endpoint.repository}:{self.actions}"

    def url(self, path: str) -> str:
        return f"{self.base}/v2/{self.endpoint.repository}/{path}"

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Return the whole answer, which may be an error; retried as `again` says."""

        async def once() -> httpx.Response:
            async with self.stream(method, url, **options) as response:
                await _read_bounded(response)
                return response

        return await again(once)

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, scope: str | None = None, **options: Any
    ) -> AsyncIterator[httpx.Response]:
        """Give an answer whose body is to be read; authenticates when that is asked for.

        Raises TryAgain, Denied.
        """
        scope = self.scope if scope is None else scope
        headers = dict(options.pop("headers", {}))
        for attempt in range(2):
            known = self._authorization.get(scope)
            if known and _is_own(url, self.base):
                headers["Authorization"] = known
            with _temporary_failures(url):
                request = self.client.build_request(method, url, headers=headers, **options)
                response = await self.client.send(request, stream=True)
            try:
                if response.status_code == 401 and attempt == 0 and _is_own(url, self.base):
                    await self._authenticate(response, scope)
                    continue
                if response.status_code in _TEMPORARY:
                    raise TryAgain(
                        f"{response.status_code} {response.reason_phrase}", _retry_after(response)
                    )
                if self.base.startswith("https:") and response.url.scheme != "https":
                    raise RegistryError("the registry redirects to an address without TLS")
                with _temporary_failures(url):
                    yield response
                return
            finally:
                with trio.CancelScope(shield=True):
                    await response.aclose()

    async def _authenticate(self, response: httpx.Response, scope: str) -> None:
        """Get what the 401 *response* asks for. Raises Denied."""
        challenges = parse_challenges(response.headers.get_list("www-authenticate"))
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.realm:
                self._authorization[scope] = await self._token(challenge, scope)
                return
        if any(c.scheme == "basic" for c in challenges) and self.credentials:
            self._authorization[scope] = _basic(self.credentials)
            return
        raise self.denied("unauthorized")

    async def _token(self, challenge: Challenge, scope: str) -> str:
        """Return a bearer token's header (distribution's token specification)."""
        realm = urljoin(self.base, challenge.realm)
        if urlsplit(realm).scheme != "https" and not self.endpoint.insecure:
            raise RegistryError("the registry's token server has no TLS", detail=realm)
        options = _token_request(challenge, scope, self.credentials)

        async def once() -> httpx.Response:
            request = self.client.build_request(url=realm, **options)
            response = await _answer(self.client, request, realm)
            if response.status_code in _TEMPORARY:
                raise TryAgain(f"{response.status_code} from the token server")
            return response

        response = await again(once)
        if response.status_code != 200:
            raise self.denied(f"{response.status_code} from {urlsplit(realm).netloc}")
        answer = parse_object(response.content, "token")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii():
            raise RegistryError("the token server gave no token", detail=realm)
        return f"Bearer {token}"

    def denied(self, reason: str) -> Denied:
        return Denied(
            f"access to {self.endpoint} denied", detail=reason, hint=f"sbx login {self.host}"
        )

    @property
    def host(self) -> str:
        return "docker.io" if self.endpoint.host.endswith("docker.io") else self.endpoint.host

    def check(self, response: httpx.Response, what: str) -> None:
        """Raise the error that *response* is, if it is one."""
        code = response.status_code
        if code < 400:
            return
        said = registry_message(response)
        if code in (401, 403):
            raise self.denied(said)
        if code == 404:
            raise NotFound(f"{what} not found at {self.endpoint}", detail=said)
        raise RegistryError(f"{self.endpoint.host}: {code} for {what}", detail=said)


async def again(once: Callable[[], Awaitable[T]], tries: int = TRIES) -> T:
    """Return what *once* returns; call it again, later and later, while it raises TryAgain."""
    pause = _FIRST_PAUSE
    for left in reversed(range(tries)):
        try:
            return await once()
        except TryAgain as err:
            if not left:
                raise RegistryError(
                    "the registry does not answer", detail=f"{err} ({tries} tries)"
                ) from err
            await trio.sleep(min(err.pause or pause, _LONGEST_PAUSE))
            pause *= 2
    raise AssertionError("not reached")


class _temporary_failures:
    """Turns failures of the network into TryAgain."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, err: BaseException | None, trace: Any) -> None:
        if isinstance(err, httpx.ConnectError) and "CERTIFICATE" in str(err).upper():
            raise RegistryError(
                f"the certificate of {self.host} is not trusted",
                detail=str(err),
                hint="put its CA into /etc/containers/certs.d/HOST/ca.crt, "
                "or allow the registry as insecure in registries.conf",
            ) from err
        if isinstance(err, httpx.HTTPError):
            raise TryAgain(f"{self.host}: {err or type(err).__name__}") from err


@asynccontextmanager
async def open_session(
    endpoint: Endpoint, credentials: Credentials | None, actions: str = "pull"
) -> AsyncIterator[Session]:
    """Give a session; finds out by `GET /v2/` how the registry is spoken to. Raises SbxError."""
    verify: ssl.SSLContext | bool = False if endpoint.insecure else tls_context(endpoint.host)
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(
        verify=verify,
        timeout=_TIMEOUT,
        limits=limits,
        follow_redirects=True,
        headers={"User-Agent": f"sbx/{__version__}"},
    ) as client:
        session = Session(endpoint, client, credentials, actions)
        await _find_base(session)
        yield session


async def _find_base(session: Session) -> None:
    """Use TLS; plain HTTP alone where that was allowed and TLS is not spoken."""
    host = session.endpoint.host
    schemes = ("https", "http") if session.endpoint.insecure else ("https",)

    async def once() -> str:
        last = ""
        for scheme in schemes:
            try:
                request = session.client.build_request("GET", f"{scheme}://{host}/v2/")
                response = await _answer(session.client, request, f"{scheme}://{host}")
            except TryAgain as err:
                if scheme == schemes[-1]:
                    raise
                last = str(err)
                continue
            if response.status_code in _TEMPORARY:
                raise TryAgain(f"{response.status_code} {response.reason_phrase}")
            if response.status_code in (200, 401, 403, 404):
                return f"{scheme}://{host}"
            last = f"{response.status_code} for /v2/"
        raise RegistryError(f"{host} is not a registry", detail=last)

    try:
        session.base = await again(once, tries=2)
    except RegistryError as err:
        raise RegistryError(f"can't reach {host}", detail=err.detail or err.message) from err


def tls_context(host: str) -> ssl.SSLContext:
    """Return the machine's trust, with the CA that docker's or podman's directories add."""
    context = ssl.create_default_context()
    for directory in _CERTIFICATES:
        for certificate in sorted((directory / host).glob("*.crt")):
            context.load_verify_locations(certificate)
    return context


def registry_message(response: httpx.Response) -> str:
    """Return what the registry says of an error, without control characters."""
    try:
        errors = response.json()["errors"]
        text = "; ".join(f"{e.get('code', '')}: {e.get('message', '')}" for e in errors)
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        text = f"{response.status_code} {response.reason_phrase}"
    return "".join(c for c in text if c.isprintable())[:500]


async def _answer(client: httpx.AsyncClient, request: httpx.Request, url: str) -> httpx.Response:
    """Return the whole answer to a request that needs no authorization. Raises TryAgain."""
    with _temporary_failures(url):
        response = await client.send(request, stream=True)
        try:
            await _read_bounded(response)
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()
    return response


async def _read_bounded(response: httpx.Response) -> None:
    """Read a document's body into the response; a larger one is refused."""
    body = bytearray()
    refused = False
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                refused = True
                # Read on, and to the end that this is: httpx's generators are to be exhausted.
                await response.aclose()
                body.clear()
    except httpx.HTTPError:
        if not refused:
            raise
    if refused:
        raise RegistryError("answer refused", detail=f"larger than {MOST_BYTES >> 20} MiB")
    response._content = bytes(body)


def _token_request(
    challenge: Challenge, scope: str, credentials: Credentials | None
) -> dict[str, Any]:
    fields = {"service": challenge.service, "scope": scope}
    if credentials and credentials.identity_token:
        form = {
            **fields,
            "grant_type": "refresh_token",
            "client_id": "sbx",
            "refresh_token": credentials.identity_token,
        }
        return {"method": "POST", "data": form}
    headers = {"Authorization": _basic(credentials)} if credentials else {}
    parameters = {key: value for key, value in fields.items() if value}
    return {"method": "GET", "params": parameters, "headers": headers}


def _basic(credentials: Credentials) -> str:
    import base64

    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def _is_own(url: str, base: str) -> bool:
    one, other = urlsplit(url), urlsplit(base)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None

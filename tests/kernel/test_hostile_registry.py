"""What registries may try: endless answers, and links that ask for credentials elsewhere."""

from __future__ import annotations

import base64
import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.engine.registry.pull import tags
from sandbox.engine.registry.search import Hit, search
from sandbox.errors import SbxError, StoreError
from sandbox.image.reference import parse_reference
from tests.kernel.test_registry import User

_MEGABYTE = b" " * (1 << 20)
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    """What a server was asked, with which authorization."""

    paths: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)


@contextmanager
def server(answer: Answer, seen: Seen) -> Iterator[str]:
    """Give the host:port of a server that answers every request by *answer*."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            seen.paths.append(self.path)
            seen.authorizations.append(self.headers.get("Authorization"))
            with suppress(OSError):
                answer(self)

        do_POST = do_GET

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def send(
    handler: BaseHTTPRequestHandler, status: int, value: object, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name, text)
    handler.end_headers()
    handler.wfile.write(json.dumps(value).encode())


def send_without_end(handler: BaseHTTPRequestHandler) -> None:
    """As much as there is patience for, 4 GiB at most."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(4096):
        handler.wfile.write(_MEGABYTE)


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


def test_an_endless_answer_is_refused(user: User) -> None:
    """Whatever a registry says to the first question, its documents or a token, is bounded."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def ask_for_token(handler: BaseHTTPRequestHandler) -> None:
        host = handler.headers["Host"]
        if handler.path.startswith("/token"):
            send_without_end(handler)
        else:
            send(handler, 401, {}, {"WWW-Authenticate": f'Bearer realm="http://{host}/token"'})

    def endless_documents(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v2/":
            send(handler, 200, {}, {})
        else:
            send_without_end(handler)

    for answer in (send_without_end, ask_for_token, endless_documents):
        with server(answer, Seen()) as host, pytest.raises(StoreError):
            user.pull(f"{host}/app:1")

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 << 10, f"{grown >> 10} MiB"


def test_a_link_of_an_answer_gets_no_credentials(user: User) -> None:
    """The next page of a list may be anywhere; the authorization goes to the registry alone."""
    secret = base64.b64encode(b"me:secret").decode()
    elsewhere = Seen()
    with server(lambda h: send(h, 200, {"tags": ["2"]}, {}), elsewhere) as other:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if handler.headers.get("Authorization") is None:
                send(handler, 401, {}, {"WWW-Authenticate": 'Basic realm="x"'})
            else:
                link = f'<http://{other}/v2/app/tags/list>; rel="next"'
                send(handler, 200, {"tags": ["1"]}, {"Link": link})

        own = Seen()
        with server(answer, own) as host:
            (user.directory / ".docker").mkdir()
            config = {"auths": {host: {"auth": secret}}}
            (user.directory / ".docker/config.json").write_text(json.dumps(config))
            with suppress(SbxError):
                tags(parse_reference(f"{host}/app"), user.environ)

    assert f"Basic {secret}" in own.authorizations
    assert elsewhere.paths
    assert set(elsewhere.authorizations) == {None}


def test_pages_without_end_are_refused(user: User) -> None:
    """A list of tags that always has a next page ends."""
    seen = Seen()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        names = [f"{len(seen.paths)}-{number}" for number in range(500)]
        send(handler, 200, {"tags": names}, {"Link": f'<{handler.path}>; rel="next"'})

    with server(answer, seen) as host, pytest.raises(StoreError, match="tags"):
        tags(parse_reference(f"{host}/app"), user.environ)


def test_a_search_asks_as_docker_does(user: User) -> None:
    """`/v1/search` with the term and how many; what comes is checked before it is believed."""
    seen = Seen()
    results: list[object] = [
        {"name": "one", "description": "first", "star_count": 5, "is_official": True},
        {"name": "two", "star_count": "many"},
    ]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, {"results": results}, {})

    with server(answer, seen) as host:
        found = search(f"{host}/a word", 10, user.environ)
        results[:] = ["no object"]
        with pytest.raises(StoreError):
            search(f"{host}/x", 10, user.environ)

    assert found == [Hit(f"{host}/one", "first", 5, True), Hit(f"{host}/two")]
    assert "/v1/search?q=a%20word&n=10" in seen.paths

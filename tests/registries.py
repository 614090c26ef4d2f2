"""Real registries on loopback for tests, and a proxy to one that fails on purpose."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROGRAM = "docker-registry"
TOKEN = "a-token-of-the-test"
# bcrypt of "secret", which is no secret
HTPASSWD = "tester:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@contextmanager
def registry(directory: Path, *, auth: bool = False, tls: bool = False) -> Iterator[str]:
    """Give the host:port of a registry that keeps its data below *directory*."""
    if not shutil.which(PROGRAM):
        pytest.skip(f"needs {PROGRAM}")
    directory.mkdir(exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if auth:
        (directory / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    if tls:
        key, certificate = make_certificate(directory)
        config["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
    (directory / "config.yml").write_text(json.dumps(config))  # YAML has all of JSON
    with subprocess.Popen(
        [PROGRAM, "serve", str(directory / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_listening(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something accepts connections; fails the test when the process ended."""
    while True:
        assert process.poll() is None, "the registry has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a key and a certificate that vouches for 127.0.0.1."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    wanted = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *wanted.split(), *names, *files], check=True, capture_output=True)
    return key, certificate


@dataclass
class Faults:
    """What goes wrong, and what was asked for. Each fault happens *times* and then no more."""

    statuses: list[int] = field(default_factory=list)  # answered instead of asking the registry
    resets: int = 0  # connections cut before an answer
    truncate_blobs: list[int] = field(default_factory=list)  # bytes after which a blob is cut
    corrupt_blobs: int = 0  # blobs with a flipped byte
    cut_uploads: int = 0  # uploads cut after the registry had them
    token: bool = False  # a bearer token is asked for
    ignore_ranges: bool = False
    seen: list[str] = field(default_factory=list)  # "GET /v2/…" with "bytes=…" for ranges
    scopes: list[str] = field(default_factory=list)


@contextmanager
def failing_proxy(upstream: str, faults: Faults) -> Iterator[str]:
    """Give the host:port of a proxy to the registry at *upstream* that has *faults*."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream, faults))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(upstream: str, faults: Faults) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with suppress(OSError):
                super().handle_one_request()

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = f"{self.command} {self.path} {self.headers.get('Range', '')}".strip()
            with lock:
                faults.seen.append(asked)
                if self.path.startswith("/token"):
                    self._give_token()
                    return
                if self._fails():
                    return
            if faults.token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                host = self.headers["Host"]
                realm = f'Bearer realm="http://{host}/token",service="test"'
                self._answer(401, b"{}", {"WWW-Authenticate": realm})
                return
            self._forward(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_any

        def _fails(self) -> bool:
            if not self.path.startswith("/v2/") or self.path == "/v2/":
                return False
            if faults.resets > 0:
                faults.resets -= 1
                self._cut()
                return True
            if faults.statuses:
                self._answer(faults.statuses.pop(0), b"{}", {"Retry-After": "0"})
                return True
            return False

        def _forward(self, body: bytes) -> None:
            skipped = ("authorization", "range") if faults.ignore_ranges else ("authorization",)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
            with closing(http.client.HTTPConnection(upstream)) as connection:
                connection.request(self.command, self.path, body or None, headers)
                with connection.getresponse() as response:
                    data = response.read()
            kept = ("content-type", "location", "range", "link", "docker-upload-uuid")
            answer = {k: v for k, v in response.getheaders() if k.lower() in kept}
            is_blob = self.command == "GET" and "/blobs/sha256:" in self.path
            with lock:
                if self.command == "PATCH" and faults.cut_uploads > 0:
                    faults.cut_uploads -= 1
                    self._cut()
                    return
                if is_blob and faults.corrupt_blobs > 0 and len(data) > 500:
                    faults.corrupt_blobs -= 1
                    data = data[:400] + bytes([data[400] ^ 1]) + data[401:]
                cut = len(data)
                if is_blob and faults.truncate_blobs and len(data) > 500:
                    cut = faults.truncate_blobs.pop(0)
            length = response.getheader("Content-Length") or str(len(data))
            self._answer(response.status, data[:cut], answer, length)
            if cut < len(data):
                self._cut()

        def _give_token(self) -> None:
            from urllib.parse import parse_qs, urlsplit

            faults.scopes += parse_qs(urlsplit(self.path).query).get("scope", [])
            expected = "Basic " + base64.b64encode(b"tester:secret").decode()
            if self.headers.get("Authorization") not in (None, expected):
                self._answer(401, b"{}", {})
                return
            self._answer(200, json.dumps({"token": TOKEN}).encode(), {})

        def _answer(
            self, status: int, data: bytes, headers: dict[str, str], length: str | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    return Handler

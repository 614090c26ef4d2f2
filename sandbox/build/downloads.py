"""ADD's remote sources: files over HTTP, and git repositories."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from sandbox.build.errors import BuildError

_GIT_SUFFIX = re.compile(r"\.git(?:#.*)?$")
_SCP_STYLE = re.compile(r"[a-zA-Z0-9_.-]+@[a-zA-Z0-9.-]+:[^:].*")
_CHECKSUM = re.compile("sha256:[0-9a-f]{64}")
_SECONDS = 60.0  # without a byte


class Remote(Struct, frozen=True):
    """A remote source of ADD."""

    url: str
    checksum: str | None = None
    keep_git: bool = False  # the directory .git stays


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    """Return whether *text* names a git repository rather than a file."""
    if text.startswith(("git://", "ssh://", "git@")):
        return True
    return bool((is_url(text) and _GIT_SUFFIX.search(text)) or _SCP_STYLE.fullmatch(text))


def fetch(remote: Remote, directory: Path, environ: Mapping[str, str]) -> str:
    """Fetch *remote* into *directory*; return its name there. Raises BuildError."""
    if is_git(remote.url):
        name = f"repository-{len(os.listdir(directory))}"
        commit = clone(remote.url, directory / name, environ, keep_git=remote.keep_git)
        if remote.checksum and not commit.startswith(remote.checksum.removeprefix("sha1:")):
            raise BuildError(
                f"wrong commit of {remote.url}", detail=f"expected {remote.checksum}, got {commit}"
            )
        return name
    name = posixpath.basename(unquote(urlsplit(remote.url).path))
    if not name or name in (".", ".."):
        raise BuildError(
            f"cannot determine filename from url: {remote.url}",
            hint="name the file in the target: ADD URL /path/name",
        )
    path = directory / name
    download(remote.url, path)
    if remote.checksum:
        _verify(path, remote)
    return name


def _verify(path: Path, remote: Remote) -> None:
    wanted = remote.checksum or ""
    if not _CHECKSUM.fullmatch(wanted):
        raise BuildError(f"unsupported checksum: {wanted!r}", hint="write sha256: and 64 digits")
    with open(path, "rb") as file:
        found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise BuildError(
            f"digest mismatch for {remote.url}", detail=f"expected {wanted}\nreceived {found}"
        )


def download(url: str, path: Path) -> None:
    """Fetch a file, with mode 0600 and the time that the server tells. Raises BuildError."""
    import httpx

    try:
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=_SECONDS) as response,
            open(path, "wb", opener=_private) as file,
        ):
            if response.status_code != 200:
                raise BuildError(f"can't fetch {url}", detail=f"status {response.status_code}")
            for chunk in response.iter_bytes():
                file.write(chunk)
            modified = response.headers.get("last-modified", "")
    except httpx.HTTPError as err:
        raise BuildError(f"can't fetch {url}", detail=str(err) or type(err).__name__) from err
    except httpx.InvalidURL as err:
        raise BuildError(f"invalid address: {url}", detail=str(err)) from err
    _set_time(path, modified)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)


def _set_time(path: Path, modified: str) -> None:
    try:
        moment = parsedate_to_datetime(modified).timestamp()
    except (ValueError, OverflowError):
        moment = 0.0  # the same with every download
    os.utime(path, (moment, moment))


def clone(url: str, path: Path, environ: Mapping[str, str], *, keep_git: bool = False) -> str:
    """Check out ``URL[#REF[:DIRECTORY]]`` as *path*; return the commit. Raises BuildError."""
    address, _, fragment = url.partition("#")
    reference, _, below = fragment.partition(":")
    if address.startswith("-") or reference.startswith("-"):
        raise BuildError(f"invalid repository: {url}")
    checkout = path.with_name(path.name + ".git")
    git = _Git(checkout, environ, url)
    checkout.mkdir(mode=0o755)
    git("init", "--quiet")
    git("fetch", "--quiet", "--depth=1", "--no-tags", "--", address, reference or "HEAD")
    git("checkout", "--quiet", "--detach", "FETCH_HEAD")
    if (checkout / ".gitmodules").exists():
        git("submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
    commit = git("rev-parse", "HEAD").strip()
    if not keep_git:
        from sandbox.linux.trees import remove_tree

        remove_tree(checkout / ".git")
    _take(checkout, below, path, url)
    return commit


class _Git:
    """git in one directory, without questions to a person."""

    def __init__(self, directory: Path, environ: Mapping[str, str], url: str) -> None:
        self._directory = directory
        self._environ = {
            **environ,
            "GIT_TERMINAL_PROMPT": "0",
            # A submodule may name any protocol: not those that run commands or read local files.
            "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
            "LC_ALL": "C.UTF-8",
        }
        self._url = url

    def __call__(self, *arguments: str) -> str:
        try:
            result = subprocess.run(
                ["git", "-c", "init.defaultBranch=main", *arguments],
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise BuildError(
                "git is needed for repositories", hint="sudo apt-get install git"
            ) from None
        if result.returncode != 0:
            raise BuildError(f"can't fetch {self._url}", detail=result.stderr.strip()[-2000:])
        return result.stdout


def _take(checkout: Path, below: str, path: Path, url: str) -> None:
    """Make the wanted directory of the checkout *path*; no link leads out of it."""
    from sandbox.build.tree import ContextTree, resolve

    tree = ContextTree(str(checkout))
    try:
        node = resolve(tree, below)
        if node is None or not node.is_directory:
            raise BuildError(f"no directory {below!r} in {url}")
        os.rename(checkout / node.path if node.path else checkout, path)
    finally:
        tree.close()

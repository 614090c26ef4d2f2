"""Who the user is to a registry: docker's config.json and credential helpers.

https://docs.docker.com/reference/cli/docker/login/#credential-stores; podman's auth.json
(containers-auth.json(5)) has the same form and is read as well.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from sandbox.errors import InvalidSpec, StoreError
from sandbox.image.reference import DEFAULT_REGISTRY

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN_USER = "<token>"  # the user name of helpers for an identity token
_HELPER_TIMEOUT = 60


class Credentials(Struct, frozen=True):
    """A name and a password, or a token that is good for getting others. Never printed."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


def config_file(environ: Mapping[str, str]) -> Path:
    """Return docker's configuration file, the one that `login` writes."""
    if chosen := environ.get("REGISTRY_AUTH_FILE"):
        return Path(chosen)
    directory = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", "/"), ".docker")
    return Path(directory) / "config.json"


def find(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """Return the credentials for *registry* ("docker.io", "host:port"), None when there are none.

    Raises InvalidSpec for a file that can't be read, StoreError for a helper that fails.
    """
    for path in _files(environ):
        found = _find_in(_read(path), registry, environ)
        if found is not None:
            return found
    return None


def save(registry: str, credentials: Credentials, environ: Mapping[str, str]) -> str:
    """Keep *credentials*; return where they are now: a helper's name or the file's path."""
    path = config_file(environ)
    config = _read(path)
    helper = _helper_for(config, registry)
    if helper:
        value = {
            "ServerURL": _key(registry),
            "Username": credentials.username,
            "Secret": credentials.password,
        }
        _call(helper, "store", json.dumps(value), environ)
        return helper
    pair = f"{credentials.username}:{credentials.password}".encode()
    others = (config.get("auths") or {}).items()
    auths = config["auths"] = {k: v for k, v in others if not _same_registry(k, registry)}
    auths[_key(registry)] = {"auth": base64.b64encode(pair).decode()}
    _write(path, config)
    return str(path)


def forget(registry: str, environ: Mapping[str, str]) -> bool:
    """Remove the credentials for *registry*; return whether there were any."""
    path = config_file(environ)
    config = _read(path)
    helper = _helper_for(config, registry)
    if helper:
        if _find_in(config, registry, environ) is None:
            return False
        _call(helper, "erase", _key(registry), environ)
        return True
    auths = config.get("auths") or {}
    known = [key for key in auths if _same_registry(key, registry)]
    for key in known:
        del auths[key]
    if known:
        _write(path, config)
    return bool(known)


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    yield config_file(environ)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and not environ.get("REGISTRY_AUTH_FILE"):
        yield Path(runtime) / "containers/auth.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as err:
        raise InvalidSpec(f"can't read {path}", detail=str(err)) from err
    if not isinstance(value, dict) or not isinstance(value.get("auths") or {}, dict):
        raise InvalidSpec(f"can't read {path}", detail="not a JSON object of objects")
    return value


def _write(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(config, file, indent="\t")
        file.write("\n")
    os.rename(aside, path)


def _find_in(
    config: dict[str, Any], registry: str, environ: Mapping[str, str]
) -> Credentials | None:
    helper = _helper_for(config, registry)
    if helper:
        return _ask_helper(helper, registry, environ)
    auths = config.get("auths")
    for key, entry in (auths or {}).items() if isinstance(auths, dict) else ():
        if _same_registry(key, registry) and isinstance(entry, dict):
            found = _from_entry(entry)
            if found is not None:
                return found
    return None


def _from_entry(entry: dict[str, Any]) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    try:
        pair = base64.b64decode(str(entry.get("auth") or "")).decode()
    except ValueError:  # not base64, or of bytes that are no text
        return None
    username, _, password = pair.partition(":")
    username = username or str(entry.get("username") or "")
    password = password.rstrip("\0") or str(entry.get("password") or "")
    if not token and not username:
        return None
    return Credentials(username, password, token)


def _helper_for(config: dict[str, Any], registry: str) -> str:
    helpers = config.get("credHelpers")
    for key, helper in (helpers or {}).items() if isinstance(helpers, dict) else ():
        if _same_registry(key, registry):
            return str(helper)
    return str(config.get("credsStore") or "")


def _ask_helper(helper: str, registry: str, environ: Mapping[str, str]) -> Credentials | None:
    answer = _call(helper, "get", _key(registry), environ)
    if answer is None:
        return None
    try:
        value = json.loads(answer)
        username, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"credential helper {helper} gave no credentials") from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret)


def _call(helper: str, action: str, text: str, environ: Mapping[str, str]) -> str | None:
    """Run `docker-credential-HELPER ACTION` with *text* as input; None when it knows nothing."""
    if not _HELPER.fullmatch(helper):
        raise InvalidSpec(f"invalid credential helper {helper!r}")
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", action],
            input=text,
            capture_output=True,
            text=True,
            env=dict(environ),
            timeout=_HELPER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise StoreError(f"credential helper {helper} failed", detail=str(err)) from err
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout + done.stderr).strip()
    if "credentials not found" in said.lower():
        return None
    raise StoreError(f"credential helper {helper} failed", detail=said[:500])


def _key(registry: str) -> str:
    return _HUB_KEY if registry == DEFAULT_REGISTRY else registry


def _same_registry(key: str, registry: str) -> bool:
    """Compare a key of the file, which may be an address, with a registry's host."""
    if key == _HUB_KEY or key in ("index.docker.io", "registry-1.docker.io"):
        return registry == DEFAULT_REGISTRY
    host = re.sub(r"^https?://", "", key).partition("/")[0]
    return host == registry

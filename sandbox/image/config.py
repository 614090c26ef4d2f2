"""An image's configuration (OCI image specification, config.md) as frozen data."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from sandbox.errors import StoreError
from sandbox.image import document
from sandbox.image.descriptor import Platform
from sandbox.image.reference import is_digest

_WHAT = "image configuration"
_MOST_LAYERS = 500  # the kernel's overlay takes as many


class ImageConfig(Struct, frozen=True):
    """How containers of an image run when nothing else is said."""

    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    workdir: str = ""
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Any = None  # docker's object, as it is
    shell: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


class ConfigDocument(Struct, frozen=True):
    """The whole document whose digest is the image's id."""

    platform: Platform
    config: ImageConfig = ImageConfig()
    diff_ids: tuple[str, ...] = ()  # the lowest layer first
    created: float | None = None  # seconds since the epoch
    author: str = ""
    history: tuple[dict[str, Any], ...] = ()


def parse_config_document(data: bytes) -> ConfigDocument:
    """Return the document in *data*. Raises StoreError."""
    value = document.parse_object(data, _WHAT)
    rootfs = value.get("rootfs")
    diff_ids = document.texts(rootfs.get("diff_ids") if isinstance(rootfs, dict) else None, _WHAT)
    if not all(map(is_digest, diff_ids)) or len(diff_ids) > _MOST_LAYERS:
        raise StoreError(f"damaged {_WHAT}", detail=f"diff_ids: {diff_ids!r:.120}")
    words = [document.text(value.get(key), _WHAT) for key in ("os", "architecture", "variant")]
    return ConfigDocument(
        Platform(*words),
        parse_config(value.get("config")),
        diff_ids,
        parse_time(value.get("created")),
        document.text(value.get("author"), _WHAT),
        tuple(document.objects(value.get("history"), _WHAT)),
    )


def parse_config(value: Any) -> ImageConfig:
    """Return the `config` part. Raises StoreError."""
    if value is None:
        return ImageConfig()
    if not isinstance(value, dict):
        raise StoreError(f"damaged {_WHAT}", detail="config is not an object")
    env = tuple(item.partition("=")[::2] for item in document.texts(value.get("Env"), _WHAT))
    return ImageConfig(
        env=env,
        entrypoint=_command(value.get("Entrypoint")),
        cmd=_command(value.get("Cmd")),
        workdir=document.text(value.get("WorkingDir"), _WHAT),
        user=document.text(value.get("User"), _WHAT),
        labels=_labels(value.get("Labels")),
        exposed_ports=_keys(value.get("ExposedPorts")),
        volumes=_keys(value.get("Volumes")),
        stop_signal=document.text(value.get("StopSignal"), _WHAT),
        healthcheck=value.get("Healthcheck"),
        shell=document.texts(value.get("Shell"), _WHAT),
        onbuild=document.texts(value.get("OnBuild"), _WHAT),
    )


def _command(value: Any) -> tuple[str, ...] | None:
    # docker reads a bare string as a command of one word.
    if isinstance(value, str):
        return (value,)
    return None if value is None else document.texts(value, _WHAT)


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise StoreError(f"damaged {_WHAT}", detail="labels are not strings")
    return tuple(value.items())


def _keys(value: Any) -> tuple[str, ...]:
    """Return the keys of what Go writes for a set."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise StoreError(f"damaged {_WHAT}", detail="not a set")
    return tuple(value)


def config_to_json(config: ImageConfig) -> dict[str, Any]:
    """Return the `config` part as it is written: what is empty is left out."""
    value: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": [f"{name}={text}" for name, text in config.env],
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "Healthcheck": config.healthcheck,
        "Volumes": {path: {} for path in config.volumes},
        "WorkingDir": config.workdir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "OnBuild": list(config.onbuild),
    }
    return {key: item for key, item in value.items() if item or (item == [] and key == "Cmd")}


def to_json(doc: ConfigDocument) -> dict[str, Any]:
    """Return the document as it is written."""
    value: dict[str, Any] = {}
    if doc.created is not None:
        value["created"] = format_time(doc.created)
    if doc.author:
        value["author"] = doc.author
    value["architecture"] = doc.platform.architecture
    value["os"] = doc.platform.os
    if doc.platform.variant:
        value["variant"] = doc.platform.variant
    value["config"] = config_to_json(doc.config)
    value["rootfs"] = {"type": "layers", "diff_ids": list(doc.diff_ids)}
    value["history"] = [dict(entry) for entry in doc.history]
    return value


def parse_time(value: Any) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for none and Go's zero time."""
    if not isinstance(value, str) or value.startswith("0001-01-01"):
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        return None


def format_time(moment: float) -> str:
    """Return *moment* as RFC 3339 in UTC, to the microsecond."""
    whole, fraction = divmod(round(moment * 1_000_000), 1_000_000)
    digits = f".{fraction:06d}" if fraction else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + digits + "Z"


def with_env(config: ImageConfig, name: str, text: str) -> ImageConfig:
    """Return *config* with the variable set, in its old place when it was there."""
    env = dict(config.env)
    env[name] = text
    return structs.replace(config, env=tuple(env.items()))

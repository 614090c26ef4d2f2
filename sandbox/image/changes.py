"""`--change`: Dockerfile instructions that set an imported image's configuration.

https://docs.docker.com/reference/cli/docker/image/import/ names those that are allowed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable

from msgspec import structs

from sandbox.errors import InvalidSpec
from sandbox.image.config import ImageConfig, with_env

_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?")
_SHELL = ("/bin/sh", "-c")


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """Return *config* after *changes*. Raises InvalidSpec."""
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise InvalidSpec(
                f"invalid change {change!r}", hint="use one of " + ", ".join(sorted(_INSTRUCTIONS))
            )
        config = instruction(config, rest.strip())
    return config


def _command(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    return (*_SHELL, text)


def _cmd(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(config, cmd=_command(text))


def _entrypoint(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(config, entrypoint=_command(text))


def _env(config: ImageConfig, text: str) -> ImageConfig:
    for name, value in _assignments(text):
        config = with_env(config, name, value)
    return config


def _label(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(
        config, labels=tuple({**dict(config.labels), **dict(_assignments(text))}.items())
    )


def _assignments(text: str) -> list[tuple[str, str]]:
    """Return `A=b C="d e"`, or the old `A b e` with one name."""
    first, _, rest = text.partition(" ")
    if "=" not in first and rest:
        return [(first, rest.strip())]
    try:
        words = shlex.split(text)
    except ValueError as err:
        raise InvalidSpec(f"invalid change: {text!r}", detail=str(err)) from None
    pairs = [word.partition("=") for word in words]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        raise InvalidSpec(f"invalid change: {text!r}", hint="write NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports = dict.fromkeys(config.exposed_ports)
    for word in text.split():
        match = _PORT.fullmatch(word)
        if not match or not 0 < int(match[1]) < 65536:
            raise InvalidSpec(f"invalid port {word!r}", hint="write EXPOSE 80 or EXPOSE 53/udp")
        ports[f"{match[1]}/{match[2] or 'tcp'}"] = None
    return structs.replace(config, exposed_ports=tuple(ports))


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    paths = _command(text) if text.startswith("[") else tuple(text.split())
    return structs.replace(config, volumes=tuple(dict.fromkeys((*config.volumes, *paths))))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    base = config.workdir or "/"
    return structs.replace(
        config, workdir=text if text.startswith("/") else f"{base.rstrip('/')}/{text}"
    )


def _user(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(config, user=text)


def _stop_signal(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(config, stop_signal=text)


def _onbuild(config: ImageConfig, text: str) -> ImageConfig:
    return structs.replace(config, onbuild=(*config.onbuild, text))


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}

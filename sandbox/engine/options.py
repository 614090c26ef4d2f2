"""What was asked for when a container is created: by the command line or by a program.

`RunOptions` holds what was *given*; None and () mean that nothing was. `resolve` fills the rest
from the profile and the image. Here are also the parsers of the short values; those of mounts,
ports, sizes and variables have modules of their own.
"""

from __future__ import annotations

import re
from typing import Any, cast

from msgspec import Struct

from sandbox.engine.environment import Variable
from sandbox.engine.sizes import parse_count, parse_size
from sandbox.errors import InvalidSpec
from sandbox.spec import (
    CgroupsMode,
    Device,
    Mount,
    NetworkMode,
    OverlayDriver,
    Port,
    Ulimit,
    UsernsMode,
)


class RunOptions(Struct, frozen=True):
    """The options of `sbx run`, parsed; fields are named as in `spec`."""

    image: str
    argv: tuple[str, ...] = ()
    name: str | None = None
    hostname: str | None = None
    env: tuple[Variable, ...] = ()
    cwd: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None  # () takes the image's away
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    remove: bool = False
    init: bool | None = None
    read_only: bool | None = None
    labels: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    network: NetworkMode | None = None
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None  # -1 and 0: not limited
    shm_size: int | None = None
    storage_size: int | None = None
    storage_inodes: int | None = None
    timeout: float | None = None  # 0: not limited
    output: int | None = None  # 0: not limited
    ulimits: tuple[Ulimit, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str | None = None
    no_new_privileges: bool | None = None
    masked_paths: bool | None = None
    landlock: bool | None = None
    explain: bool | None = None
    privileged: bool = False
    userns: UsernsMode | None = None
    overlay: OverlayDriver | None = None
    cgroups: CgroupsMode | None = None
    stop_signal: int | None = None
    stop_timeout: float | None = None
    log_max_size: int | None = None
    log_max_files: int | None = None


def parse_network(text: str) -> NetworkMode:
    """Return the mode of `--network`; docker's and podman's names are known. Raises InvalidSpec."""
    if text in ("none", "host"):
        return cast(NetworkMode, text)
    if text in ("private", "bridge", "default", "pasta", "slirp4netns"):
        return "private"
    raise InvalidSpec(
        f"network {text} not found",
        detail="sbx has no networks between containers",
        hint="--network private, none or host",
    )


def parse_userns(text: str) -> UsernsMode:
    """Return the mode of `--userns`. Raises InvalidSpec."""
    if text in ("root", "keep-id", "auto", "host"):
        return cast(UsernsMode, text)
    raise InvalidSpec(
        f"invalid userns: {text!r}",
        hint="root (you are root inside), keep-id (you are yourself), auto (ids of its own), host",
    )


def parse_ulimit(text: str) -> Ulimit:
    """Return the limit of `--ulimit NAME=SOFT[:HARD]`; -1 is unlimited. Raises InvalidSpec."""
    match = re.fullmatch(
        r"([a-z]+)=(-1|[0-9]{1,18}|unlimited)(?::(-1|[0-9]{1,18}|unlimited))?", text
    )
    if match is None or match[1] not in _ULIMITS:
        known = ", ".join(_ULIMITS)
        raise InvalidSpec(f"invalid ulimit: {text!r}", detail=f"names: {known}", hint="nofile=1024")
    soft = _limit(match[2])
    hard = soft if match[3] is None else _limit(match[3])
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidSpec(
            f"invalid ulimit: {text!r}", detail="the soft limit is above the hard one"
        )
    return Ulimit(match[1], soft, hard)


# getrlimit(2)
_ULIMITS = tuple(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)


def _limit(text: str) -> int:
    return -1 if text in ("-1", "unlimited") else int(text)


# What these do depends on nobody's permission and gives nobody anything.
_HARMLESS_DEVICES = ("null", "zero", "full", "random", "urandom")


def parse_device(text: str) -> Device:
    """Return the device of `--device SOURCE[:TARGET[:PERMISSIONS]]`. Raises InvalidSpec."""
    parts = text.split(":")
    source = parts[0]
    target = parts[1] if len(parts) > 1 else source
    if len(parts) == 2 and re.fullmatch("[rwm]+", target):
        target = source
    permissions = parts[2] if len(parts) > 2 else "rwm"
    if len(parts) > 3 or not re.fullmatch("[rwm]{1,3}", permissions) or not source.startswith("/"):
        raise InvalidSpec(f"invalid device: {text!r}", hint="SOURCE[:TARGET[:rwm]]")
    if source not in tuple(f"/dev/{name}" for name in _HARMLESS_DEVICES):
        raise InvalidSpec(
            f"device {source} can't be passed to a container",
            detail="it reaches hardware or the kernel past the sandbox",
            hint=f"these can: {', '.join(_HARMLESS_DEVICES)}",
        )
    if not re.fullmatch(r"/dev/[^/\0]+", target) or target in ("/dev/.", "/dev/.."):
        raise InvalidSpec(f"invalid device: {text!r}", detail="the target is a name below /dev")
    return Device(source, target)


def parse_security_option(text: str) -> dict[str, Any]:
    """Return the fields of RunOptions that one `--security-opt` sets. Raises InvalidSpec."""
    name, _, value = text.partition("=") if "=" in text else text.partition(":")
    if name == "no-new-privileges" and value in ("", "true", "false"):
        return {"no_new_privileges": value != "false"}
    if name == "seccomp" and value:
        return {"seccomp": value}
    if name == "landlock" and value in ("true", "false"):
        return {"landlock": value == "true"}
    if (name, value) in (("systempaths", "unconfined"), ("unmask", "ALL")):
        return {"masked_paths": False}
    if (name, value) in (("apparmor", "unconfined"), ("label", "disable")):
        return {}  # nothing of this kind is applied
    raise InvalidSpec(
        f"invalid security option: {text!r}",
        hint="seccomp=FILE|NAME|unconfined, no-new-privileges[=BOOL], landlock=BOOL, "
        "systempaths=unconfined",
    )


def parse_storage_option(text: str) -> dict[str, int]:
    """Return the field that `--storage-opt size=SIZE` or `inodes=N` sets. Raises InvalidSpec."""
    name, _, value = text.partition("=")
    if name == "size":
        return {"storage_size": parse_size(value, "storage size")}
    if name == "inodes":
        return {"storage_inodes": parse_count(value, "number of inodes")}
    raise InvalidSpec(f"unknown storage option: {text!r}", hint="size=1g, inodes=10000")


def parse_log_option(text: str) -> dict[str, int]:
    """Return the field that `--log-opt max-size=SIZE` or `max-file=N` sets. Raises InvalidSpec."""
    name, _, value = text.partition("=")
    if name == "max-size":
        return {"log_max_size": max(parse_size(value, "log size"), 4096)}
    if name == "max-file":
        return {"log_max_files": max(parse_count(value, "number of log files"), 1)}
    raise InvalidSpec(f"unknown log option: {text!r}", hint="max-size=10m, max-file=2")


def parse_pids(text: str) -> int:
    """Return the number of `--pids-limit`; -1 and 0 are unlimited. Raises InvalidSpec."""
    return -1 if text.strip() in ("-1", "0") else parse_count(text, "number of processes")

"""What a container is, as frozen data: the same words as docker's options, all values resolved.

A spec is written once, when the container is created, as JSON beside its upper directory; nothing
changes it later. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

MountType = Literal["bind", "tmpfs", "volume"]
NetworkMode = Literal["none", "private", "host"]
UsernsMode = Literal["root", "keep-id", "auto", "host"]
OverlayDriver = Literal["fuse", "kernel"]
CgroupsMode = Literal["enabled", "best-effort", "disabled"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system below the container's root that the user asked for."""

    type: MountType
    target: str  # absolute path inside the container
    source: str = ""  # host path (bind), volume name (volume), nothing (tmpfs)
    readonly: bool = False
    size: int | None = None  # tmpfs: bytes
    mode: int | None = None  # tmpfs: permission bits of its root
    options: tuple[str, ...] = ()  # noexec, exec, …


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: connections to host_ip:host_port reach container_port."""

    container_port: int
    host_port: int  # 0: any free one
    host_ip: str = ""  # "": every address
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit (getrlimit(2)); -1 is unlimited."""

    name: str  # nofile, nproc, core …
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Device:
    """A host device that is bound into the container's /dev."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What the container may use. None: not limited by sbx."""

    memory: int | None = None
    memory_swap: int | None = None  # memory plus swap as in docker; -1: unlimited swap
    cpus: float | None = None
    cpuset_cpus: str | None = None  # list format of cpuset(7): "0-2,4"
    pids: int | None = None
    shm_size: int = 64 << 20
    storage_size: int | None = None  # bytes that the upper layer may use
    storage_inodes: int | None = None
    timeout: float | None = None  # wall seconds, then SIGTERM, then SIGKILL
    output: int | None = None  # bytes on stdout and stderr together
    ulimits: tuple[Ulimit, ...] = ()
    # Names of limits that the user asked for by hand or by the profile ("memory", "cpus" …):
    # these must be enforced or the container does not start.
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Security:
    """What the container's processes may do."""

    capabilities: tuple[str, ...] = ()  # "CAP_CHOWN" …
    seccomp: str = "default"  # a name in profiles/seccomp, an absolute path, or "unconfined"
    no_new_privileges: bool = True
    landlock: bool = True
    explain: bool = False  # record what seccomp denies, with the program and the rule
    privileged: bool = False  # all capabilities within its own user namespace, nothing masked
    masked_paths: bool = True


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything needed to run a container."""

    id: str  # 64 hex digits
    name: str
    image: str  # the reference as given
    image_id: str  # digest of the image's config; "" for `host`
    lower: tuple[str, ...]  # layer directories, topmost first; ("/",) for `host`
    argv: tuple[str, ...]
    created: float  # seconds since the epoch
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""  # user[:group], names or numbers as in docker
    hostname: str = ""
    tty: bool = False
    interactive: bool = False  # standard input stays open
    detach: bool = False
    remove: bool = False  # --rm
    init: bool = False  # our reaper as pid 1
    read_only: bool = False
    userns: UsernsMode = "root"
    overlay: OverlayDriver = "fuse"
    network: NetworkMode = "private"
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    limits: Limits = Limits()
    security: Security = Security()
    cgroups: CgroupsMode = "enabled"
    profile: str = "default"
    stop_signal: int = 15
    stop_timeout: float = 10.0
    hidden: tuple[str, ...] = ()  # paths of the lower layers that are shown empty (`host` only)
    log_max_size: int = 10 << 20
    log_max_files: int = 2


T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Return *value* (a spec or a part of one) as what `json.dumps` takes."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Rebuild a spec of *kind* from what `to_json` returned.

    Fields it does not know are ignored (a newer sbx wrote them), missing ones get their default.
    Raises TypeError or ValueError for anything that is not of *kind*'s shape.
    """
    return typing.cast(T, _decode(kind, value))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields; typing evaluates the annotations anew each time."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _decode(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(Any, kind))
        if not isinstance(value, dict):
            raise TypeError(f"{kind} expects an object, not {value!r}")
        decoded = {key: _decode(hints[key], item) for key, item in value.items() if key in hints}
        return typing.cast(Any, kind)(**decoded)
    if origin is tuple:
        arguments = typing.get_args(kind)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decode(arguments[0], item) for item in value)
        return tuple(_decode(a, item) for a, item in zip(arguments, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _decode(next(a for a in typing.get_args(kind) if a is not type(None)), value)
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{value!r} is not one of {typing.get_args(kind)}")
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind}, not {value!r}")
    return value

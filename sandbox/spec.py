"""What a container is, as frozen data: the same words as docker's options, all values resolved.

A spec is written once, when the container is created, as JSON beside its upper directory; nothing
changes it later. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

MountType = Literal["bind", "tmpfs", "volume"]
NetworkMode = Literal["none", "private", "host"]
UsernsMode = Literal["root", "keep-id", "auto", "host"]
OverlayDriver = Literal["fuse", "kernel"]
CgroupsMode = Literal["enabled", "best-effort", "disabled"]


class Mount(Struct, frozen=True):
    """A file system below the container's root that the user asked for."""

    type: MountType
    target: str  # absolute path inside the container
    source: str = ""  # host path (bind), volume name (volume), nothing (tmpfs)
    readonly: bool = False
    size: int | None = None  # tmpfs: bytes
    mode: int | None = None  # tmpfs: permission bits of its root
    options: tuple[str, ...] = ()  # noexec, exec, …


class Port(Struct, frozen=True):
    """A published port: connections to host_ip:host_port reach container_port."""

    container_port: int
    host_port: int  # 0: any free one
    host_ip: str = ""  # "": every address
    protocol: Literal["tcp", "udp"] = "tcp"


class Ulimit(Struct, frozen=True):
    """A resource limit (getrlimit(2)); -1 is unlimited."""

    name: str  # nofile, nproc, core …
    soft: int
    hard: int


class Device(Struct, frozen=True):
    """A host device that is bound into the container's /dev."""

    source: str
    target: str


class Limits(Struct, frozen=True):
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


class Security(Struct, frozen=True):
    """What the container's processes may do."""

    capabilities: tuple[str, ...] = ()  # "CAP_CHOWN" …
    seccomp: str = "default"  # a name in profiles/seccomp, an absolute path, or "unconfined"
    no_new_privileges: bool = True
    landlock: bool = True
    explain: bool = False  # record what seccomp denies, with the program and the rule
    privileged: bool = False  # all capabilities within its own user namespace, nothing masked
    masked_paths: bool = True


class ContainerSpec(Struct, frozen=True):
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
    """Return *value* (a spec or a part of one) as what `json.dumps` takes.

    Not as text: paths and variables may hold bytes that are no UTF-8 (os.fsdecode), which JSON by
    the letter has no way to say.
    """
    return msgspec.to_builtins(value)


def from_json(kind: type[T], value: Any) -> T:
    """Rebuild a spec of *kind* from what `to_json` returned.

    Fields it does not know are ignored (a newer sbx wrote them), missing ones get their default.
    Raises ValueError for anything that is not of *kind*'s shape.
    """
    return msgspec.convert(value, kind)

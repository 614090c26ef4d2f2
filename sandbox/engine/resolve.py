"""From what was asked for to what a container is: options, then profile, then image.

Pure: nothing is read or changed. The precedence is docker's: what is given by hand wins over the
profile, which wins over the image, whose lists (variables, labels) are added to.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sandbox.engine.mount_syntax import container_path
from sandbox.engine.options import RunOptions
from sandbox.engine.port_syntax import parse_ports
from sandbox.engine.profiles import Profile
from sandbox.engine.signals import parse_signal
from sandbox.engine.volumes import anonymous_volume
from sandbox.errors import InvalidSpec, UsageError
from sandbox.linux import capabilities
from sandbox.spec import (
    ContainerSpec,
    Limits,
    Mount,
    OverlayDriver,
    Port,
    Security,
    UsernsMode,
)

if TYPE_CHECKING:
    from sandbox.image.store import Image

# docker's, for images that set none.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STOP_SIGNAL = 15
_STOP_TIMEOUT = 10.0
_SHM_SIZE = 64 << 20
_LOG_MAX_SIZE = 10 << 20
_LOG_MAX_FILES = 2
# RFC 1123, and sethostname(2)'s 64 bytes.
_HOSTNAME = re.compile(r"(?=.{1,63}\Z)[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?")


class Identity(Struct, frozen=True):
    """What makes this container this one, and who asked for it where."""

    id: str
    name: str
    created: float
    cwd: str = "/"
    uid: int = 0  # of the user on the host
    gid: int = 0
    single_uid: bool = False  # no subordinate ids: the user's own is the only one


def resolve(
    options: RunOptions, profile: Profile, image: Image, identity: Identity
) -> ContainerSpec:
    """Return the spec of a container. Raises InvalidSpec, UsageError."""
    hostname = _hostname(options.hostname or identity.id[:12])
    read_only = _given(options.read_only, profile.read_only, False)
    spec = ContainerSpec(
        id=identity.id,
        name=identity.name,
        image=options.image,
        image_id=image.id,
        lower=image.lower,
        argv=_argv(options, image),
        created=identity.created,
        env=_environment(options, profile, image, hostname),
        cwd=_workdir(options, profile, image, identity),
        user=_user(options, profile, image, identity),
        hostname=hostname,
        tty=options.tty,
        interactive=options.interactive,
        detach=options.detach,
        remove=options.remove,
        init=_given(options.init, profile.init, False),
        read_only=read_only,
        userns=_userns(options, profile, identity),
        overlay=_overlay(options, profile, image),
        network=_given(options.network, profile.network, "private"),
        ports=_ports(options, profile, image),
        mounts=_mounts(options, profile, image, identity),
        devices=options.devices,
        labels=_merged(image.config.labels, options.labels),
        limits=_limits(options, profile),
        security=_security(options, profile),
        cgroups=_given(options.cgroups, profile.cgroups, "enabled"),
        profile=profile.name,
        stop_signal=_stop_signal(options, image),
        stop_timeout=_given(options.stop_timeout, profile.stop_timeout, _STOP_TIMEOUT),
        hidden=image.hidden,
        log_max_size=_given(options.log_max_size, profile.log_max_size, _LOG_MAX_SIZE),
        log_max_files=_given(options.log_max_files, profile.log_max_files, _LOG_MAX_FILES),
    )
    _check(spec)
    return spec


def _given(*values: Any) -> Any:
    """Return the first value that was given."""
    return next((value for value in values if value is not None), None)


def _argv(options: RunOptions, image: Image) -> tuple[str, ...]:
    """Combine entrypoint and command: a new entrypoint makes the image's command meaningless."""
    if options.entrypoint is not None:
        argv = (*options.entrypoint, *options.argv)
    else:
        command = options.argv or image.config.cmd or ()
        argv = (*(image.config.entrypoint or ()), *command)
    if not argv:
        raise UsageError(
            "no command specified",
            detail=f"the image {options.image} has none either",
            hint=f"sbx run {options.image} COMMAND",
        )
    if not argv[0]:
        raise UsageError("the command is empty")
    return argv


def _environment(
    options: RunOptions, profile: Profile, image: Image, hostname: str
) -> tuple[tuple[str, str], ...]:
    environment = {"PATH": _PATH, "HOSTNAME": hostname}
    if options.tty:
        environment["TERM"] = "xterm"
    environment |= dict(image.config.env) | dict(profile.env)
    for name, value in options.env:
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return tuple(environment.items())


def _workdir(options: RunOptions, profile: Profile, image: Image, identity: Identity) -> str:
    if options.cwd is not None and not options.cwd.startswith("/"):
        raise InvalidSpec(
            f"the working directory {options.cwd!r} is invalid", hint="it must be an absolute path"
        )
    mounted = identity.cwd if profile.mount_cwd else None
    path = _given(options.cwd, mounted, image.config.workdir or "/")
    return "/" + posixpath.normpath(posixpath.join("/", path)).lstrip("/")


def _userns(options: RunOptions, profile: Profile, identity: Identity) -> UsernsMode:
    if options.userns is None and profile.userns == "keep-id" and identity.single_uid:
        # Root inside is then the user outside, so that files belong to the right one all the same.
        return "root"
    mode: UsernsMode = _given(options.userns, profile.userns, "root")
    return mode


def _user(options: RunOptions, profile: Profile, image: Image, identity: Identity) -> str:
    given: str | None = _given(options.user, profile.user)
    if given is None and _userns(options, profile, identity) == "keep-id":
        # As in podman: whoever keeps the own ids wants to be oneself.
        return f"{identity.uid}:{identity.gid}"
    return image.config.user if given is None else given


def _hostname(text: str) -> str:
    if not _HOSTNAME.fullmatch(text):
        raise InvalidSpec(f"invalid hostname: {text!r}", hint="letters, digits, '-' and '.'")
    return text


def _overlay(options: RunOptions, profile: Profile, image: Image) -> OverlayDriver:
    quota = _given(options.storage_size, profile.storage_size) is not None
    quota = quota or _given(options.storage_inodes, profile.storage_inodes) is not None
    if options.overlay == "kernel" and quota:
        raise UsageError(
            "the kernel's overlay has no quota", hint="--overlay fuse, or no --storage-opt"
        )
    if options.overlay is not None:
        return options.overlay
    # A profile's wish: the kernel refuses an upper directory below its lower one.
    possible = not quota and "/" not in image.lower
    return "kernel" if profile.overlay == "kernel" and possible else "fuse"


def _ports(options: RunOptions, profile: Profile, image: Image) -> tuple[Port, ...]:
    if _given(options.network, profile.network) == "host":
        return ()  # as in docker: the container's ports are the host's already
    ports = list(options.ports)
    if options.publish_all:
        published = {(port.container_port, port.protocol) for port in ports}
        exposed = [port for text in image.config.exposed_ports for port in parse_ports(text)]
        ports += [p for p in exposed if (p.container_port, p.protocol) not in published]
    fixed = [(p.host_ip, p.host_port, p.protocol) for p in ports if p.host_port]
    for port in {address for address in fixed if fixed.count(address) > 1}:
        raise InvalidSpec(f"host port {port[1]}/{port[2]} is published twice")
    return tuple(dict.fromkeys(ports))


def _mounts(
    options: RunOptions, profile: Profile, image: Image, identity: Identity
) -> tuple[Mount, ...]:
    mounts = _image_volumes(profile, image) | {mount.target: mount for mount in profile.mounts}
    if profile.mount_cwd and identity.cwd != "/":
        mounts[identity.cwd] = Mount("bind", identity.cwd, identity.cwd)
    given: set[str] = set()
    for mount in options.mounts:
        if mount.target in given:
            raise InvalidSpec(f"duplicate mount point: {mount.target}")
        given.add(mount.target)
        mounts[mount.target] = mount
    return tuple(_named(mount, identity.id) for mount in mounts.values())


def _image_volumes(profile: Profile, image: Image) -> dict[str, Mount]:
    if profile.image_volumes == "ignore":
        return {}
    targets = [container_path(text, text) for text in image.config.volumes]
    if profile.image_volumes == "tmpfs":
        return {target: Mount("tmpfs", target) for target in targets}
    return {target: Mount("volume", target) for target in targets}


def _named(mount: Mount, container_id: str) -> Mount:
    """Give an anonymous volume its name."""
    if mount.type != "volume" or mount.source:
        return mount
    name = anonymous_volume(container_id, mount.target)
    return Mount("volume", mount.target, name, mount.readonly, options=mount.options)


def _limits(options: RunOptions, profile: Profile) -> Limits:
    values: dict[str, Any] = {
        name: _given(getattr(options, name), getattr(profile, name))
        for name in (
            "memory",
            "memory_swap",
            "cpus",
            "cpuset_cpus",
            "pids",
            "storage_size",
            "storage_inodes",
            "timeout",
            "output",
        )
    }
    if options.memory and options.memory_swap is None:
        # A profile without swap stays one; any other proportion was meant for its own memory.
        without_swap = profile.memory is not None and profile.memory_swap == profile.memory
        values["memory_swap"] = options.memory if without_swap else None
    for name in ("timeout", "output", "memory", "memory_swap"):
        values[name] = values[name] or None
    if values["pids"] is not None and values["pids"] <= 0:
        values["pids"] = None
    ulimits = {limit.name: limit for limit in (*profile.ulimits, *options.ulimits)}
    if ulimits:
        values["ulimits"] = tuple(ulimits.values())
    required = tuple(name for name, value in values.items() if value is not None)
    values["shm_size"] = _given(options.shm_size, profile.shm_size, _SHM_SIZE)
    best_effort = _given(options.cgroups, profile.cgroups) == "best-effort"
    limits = Limits(**values, required=() if best_effort else required)
    _check_swap(limits)
    return limits


def _check_swap(limits: Limits) -> None:
    if limits.memory_swap is None or limits.memory_swap == -1:
        return
    if limits.memory is None:
        raise UsageError("--memory-swap needs --memory", hint="it is memory and swap together")
    if limits.memory_swap < limits.memory:
        raise UsageError("--memory-swap is below --memory", hint="it is memory and swap together")


def _security(options: RunOptions, profile: Profile) -> Security:
    privileged = options.privileged
    base = capabilities.DEFAULT if profile.capabilities is None else frozenset(profile.capabilities)
    granted = capabilities.resolve(options.cap_add, options.cap_drop, base)
    return Security(
        capabilities=tuple(sorted(capabilities.ALL if privileged else granted)),
        seccomp=_given(options.seccomp, profile.seccomp, "default"),
        no_new_privileges=_given(options.no_new_privileges, profile.no_new_privileges, True),
        landlock=_given(options.landlock, profile.landlock, True),
        explain=_given(options.explain, profile.explain, False),
        privileged=privileged,
        masked_paths=not privileged and _given(options.masked_paths, profile.masked_paths, True),
    )


def _stop_signal(options: RunOptions, image: Image) -> int:
    if options.stop_signal is not None:
        return options.stop_signal
    return parse_signal(image.config.stop_signal) if image.config.stop_signal else _STOP_SIGNAL


def _merged(*tables: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    merged: dict[str, str] = {}
    for table in tables:
        merged |= dict(table)
    return tuple(merged.items())


def _check(spec: ContainerSpec) -> None:
    """Refuse what no program can be started with; an image's JSON can say anything."""
    for text in (*spec.argv, spec.cwd, spec.user, *(part for pair in spec.env for part in pair)):
        if "\0" in text:
            raise InvalidSpec(f"a zero byte in {text!r}")
    for name, _ in spec.env:
        if not name or "=" in name:
            raise InvalidSpec(f"invalid environment variable: {name!r}")
    if spec.ports and spec.network == "none":
        raise UsageError("ports can't be published without a network", hint="--network private")

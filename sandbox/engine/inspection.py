"""All that is known of a container, in the shape of docker's `inspect`, plus `Sbx`.

https://docs.docker.com/reference/api/engine/ (GET /containers/{id}/json)
"""

from __future__ import annotations

import re
import signal
from typing import Any

from sandbox.engine.times import rfc3339
from sandbox.spec import ContainerSpec, Mount, to_json
from sandbox.state import Container

_PORT = re.compile(r"(?P<ip>.*):(?P<host>\d+)->(?P<container>\d+/(?:tcp|udp))")


def state_of(container: Container) -> str:
    """Return docker's word for what the container is doing."""
    if container.running:
        if container.status.phase in ("created", "starting"):
            return "created"
        return "paused" if container.status.paused else "running"
    return "created" if container.status.phase == "created" else "exited"


def inspect(container: Container) -> dict[str, Any]:
    """Return what `sbx inspect` prints of a container."""
    spec, status = container.spec, container.status
    return {
        "Id": spec.id,
        "Created": rfc3339(spec.created),
        "Path": spec.argv[0],
        "Args": list(spec.argv[1:]),
        "State": _state(container),
        "Image": spec.image_id or spec.image,
        "Name": f"/{spec.name}",
        "LogPath": str(container.log),
        "Driver": f"overlay-{spec.overlay}",
        "Platform": "linux",
        "HostConfig": _host_config(spec),
        "Config": _config(spec),
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "NetworkSettings": {"Ports": published(status.ports), "Networks": {spec.network: {}}},
        "Sbx": _own(container),
    }


def _state(container: Container) -> dict[str, Any]:
    status = container.status
    running = state_of(container) in ("running", "paused")
    return {
        "Status": state_of(container),
        "Running": running,
        "Paused": status.paused,
        "Restarting": False,
        "OOMKilled": status.oom_killed,
        "Dead": False,
        "Pid": status.init.pid if running and status.init else 0,
        "ExitCode": status.exit_code or 0,
        "Error": status.error,
        "StartedAt": rfc3339(status.started_at),
        "FinishedAt": rfc3339(status.finished_at),
    }


def _config(spec: ContainerSpec) -> dict[str, Any]:
    return {
        "Hostname": spec.hostname,
        "User": spec.user,
        "AttachStdin": spec.interactive and not spec.detach,
        "AttachStdout": not spec.detach,
        "AttachStderr": not spec.detach,
        "ExposedPorts": {f"{p.container_port}/{p.protocol}": {} for p in spec.ports},
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "Cmd": list(spec.argv),
        "Image": spec.image,
        "WorkingDir": spec.cwd,
        "Entrypoint": None,
        "Labels": dict(spec.labels),
        "StopSignal": signal_name(spec.stop_signal),
        "StopTimeout": spec.stop_timeout,
    }


def signal_name(number: int) -> str:
    """Return `SIGTERM`, or the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    limits, security = spec.limits, spec.security
    return {
        "AutoRemove": spec.remove,
        "Binds": [_bind(mount) for mount in spec.mounts if mount.type != "tmpfs"],
        "Tmpfs": {m.target: _tmpfs_options(m) for m in spec.mounts if m.type == "tmpfs"},
        "PortBindings": _port_bindings(spec),
        "NetworkMode": spec.network,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapAdd": list(security.capabilities),
        "Privileged": security.privileged,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": [
            f"seccomp={security.seccomp}",
            *(["no-new-privileges"] if security.no_new_privileges else []),
        ],
        "StorageOpt": _storage_options(spec),
        "UsernsMode": spec.userns,
        "ShmSize": limits.shm_size,
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory_swap or 0,
        "NanoCpus": round((limits.cpus or 0) * 1e9),
        "CpusetCpus": limits.cpuset_cpus or "",
        "PidsLimit": limits.pids,
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in limits.ulimits],
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": "rwm"}
            for d in spec.devices
        ],
        "Init": spec.init,
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(spec.log_max_size), "max-file": str(spec.log_max_files)},
        },
    }


def _bind(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}:{'ro' if mount.readonly else 'rw'}"


def _tmpfs_options(mount: Mount) -> str:
    options = [
        *(["ro"] if mount.readonly else []),
        *([f"size={mount.size}"] if mount.size is not None else []),
        *([f"mode={mount.mode:o}"] if mount.mode is not None else []),
        *mount.options,
    ]
    return ",".join(options)


def _storage_options(spec: ContainerSpec) -> dict[str, str]:
    given = {"size": spec.limits.storage_size, "inodes": spec.limits.storage_inodes}
    return {name: str(value) for name, value in given.items() if value is not None}


def _port_bindings(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        host = {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(host)
    return bindings


def published(ports: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """Return docker's table of what `ps` prints as `0.0.0.0:8080->80/tcp`."""
    table: dict[str, list[dict[str, str]]] = {}
    for text in ports:
        match = _PORT.fullmatch(text)
        if match:
            host = {"HostIp": match["ip"].strip("[]"), "HostPort": match["host"]}
            table.setdefault(match["container"], []).append(host)
    return table


def _mount(mount: Mount) -> dict[str, Any]:
    described: dict[str, Any] = {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": ",".join(mount.options),
        "RW": not mount.readonly,
        "Propagation": "rslave" if mount.type == "bind" else "",
    }
    if mount.type == "volume":
        described["Name"] = mount.source
    return described


def _own(container: Container) -> dict[str, Any]:
    """Return what docker has no place for."""
    spec, status = container.spec, container.status
    supervisor = status.supervisor if container.running else None
    return {
        "Profile": spec.profile,
        "Overlay": spec.overlay,
        "Userns": spec.userns,
        "Cgroup": status.cgroup,
        "Cgroups": spec.cgroups,
        "Supervisor": supervisor.pid if supervisor else 0,
        "Limits": to_json(spec.limits),
        "Enforcement": {
            "Required": list(spec.limits.required),
            "Enforced": dict(status.enforced),
            "NotEnforced": dict(status.not_enforced),
        },
        "Security": to_json(spec.security),
        "TimedOut": status.timed_out,
        # Without --explain the kernel denies by itself and tells nobody.
        "DenialsCounted": spec.security.explain,
        "Denials": to_json(status.denials),
        "Warnings": list(status.warnings),
    }

"""From a container's spec to the plan that its init carries out. Pure: nothing is touched."""

from __future__ import annotations

from sandbox.container.plan import (
    BindMount,
    ContainerPlan,
    DeviceMount,
    FuseRoot,
    KernelOverlayRoot,
    NewMount,
    ProcessPlan,
    Root,
    Step,
    TextFile,
)
from sandbox.container.standard_mounts import standard_mounts
from sandbox.linux import capabilities, idmap
from sandbox.linux.seccomp import Filter
from sandbox.linux.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
)
from sandbox.spec import ContainerSpec, Mount

_TTY_GROUP = 5


def container_plan(
    spec: ContainerSpec,
    *,
    upper: str,
    work: str,
    uid_map: idmap.Map,
    gid_map: idmap.Map,
    gid_span: tuple[int, int],
    filters: Filter,
    files: dict[str, str],
    volumes: str,
) -> ContainerPlan:
    """Return the plan. *files* are texts by path, *volumes* is the volumes' directory.

    *gid_span* are the groups that may ping (`idmap.span`).
    """
    private_net = spec.network != "host"
    return ContainerPlan(
        root=_root(spec, upper, work),
        steps=(
            *standard_mounts(
                shm_size=spec.limits.shm_size,
                tty_group=_TTY_GROUP if _maps(gid_map, _TTY_GROUP) else None,
                new_netns=private_net,
                cgroup=True,
                masked=spec.security.masked_paths and not spec.security.privileged,
            ),
            *(TextFile(path, text) for path, text in files.items()),
            *(SINGLE_UID_FILES if idmap.total(uid_map) == 1 else ()),
            *(DeviceMount(d.source, d.target) for d in spec.devices),
            *(_mount(mount, volumes) for mount in _parents_first(spec.mounts)),
        ),
        process=process_plan(spec, filters, single_uid=idmap.total(uid_map) == 1),
        uid_map=uid_map,
        gid_map=gid_map,
        hostname=spec.hostname or spec.id[:12],
        namespaces=CLONE_NEWNS
        | CLONE_NEWPID
        | CLONE_NEWIPC
        | CLONE_NEWUTS
        | CLONE_NEWCGROUP
        | (CLONE_NEWNET if private_net else 0),
        sysctls=_sysctls(gid_span) if private_net else (),
    )


# apt changes to the user _apt for its downloads and checks with getuid(2) that it did: of all the
# calls that pretend to succeed with a single uid this is the one that is found out.
SINGLE_UID_FILES = (
    TextFile("/etc/apt/apt.conf.d/00sbx-single-uid", 'APT::Sandbox::User "root";\n', optional=True),
)


def _sysctls(groups: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """As docker: unprivileged ping and low ports are harmless in a network of one's own."""
    return (
        ("net.ipv4.ping_group_range", f"{groups[0]} {groups[1]}"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
    )


def process_plan(spec: ContainerSpec, filters: Filter, *, single_uid: bool) -> ProcessPlan:
    """Return what the container's command (and `exec`, with its own argv) runs with."""
    return ProcessPlan(
        argv=spec.argv,
        env=spec.env,
        cwd=spec.cwd,
        user=spec.user,
        capabilities=capabilities.ALL
        if spec.security.privileged
        else frozenset(spec.security.capabilities),
        filters=filters.programs,
        notify=filters.notify,
        ulimits=spec.limits.ulimits,
        landlock=spec.security.landlock and not spec.security.privileged,
        host_network=spec.network == "host",
        tty=spec.tty,
        init=spec.init,
        single_uid=single_uid,
    )


def _root(spec: ContainerSpec, upper: str, work: str) -> Root:
    if spec.overlay == "fuse":
        return FuseRoot(readonly=spec.read_only)
    return KernelOverlayRoot(spec.lower, upper, work, readonly=spec.read_only)


def _maps(mapping: idmap.Map, number: int) -> bool:
    return any(r.inside <= number < r.inside + r.count for r in mapping)


def _parents_first(mounts: tuple[Mount, ...]) -> list[Mount]:
    return sorted(mounts, key=lambda mount: mount.target.count("/") if mount.target != "/" else 0)


def _mount(mount: Mount, volumes: str) -> Step:
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    if "noexec" in mount.options:
        attributes |= MOUNT_ATTR_NOEXEC
    if mount.type == "tmpfs":
        options: list[tuple[str, str | None]] = [("mode", f"{mount.mode or 0o1777:o}")]
        if mount.size is not None:
            options += [("size", str(mount.size)), ("nr_inodes", str(max(mount.size >> 12, 64)))]
        if mount.readonly:
            from sandbox.linux.syscalls import MOUNT_ATTR_RDONLY

            attributes |= MOUNT_ATTR_RDONLY
        return NewMount("tmpfs", mount.target, tuple(options), attributes, follow=True)
    source = f"{volumes}/{mount.source}/_data" if mount.type == "volume" else mount.source
    return BindMount(source, mount.target, mount.readonly, attributes=attributes)

"""The mounts that every container gets (runtime-spec, config-linux.md "Default Filesystems")."""

from __future__ import annotations

from sandbox.container.plan import (
    BindMount,
    DeviceMount,
    Masked,
    NewMount,
    ReadOnly,
    Step,
    Symlink,
)
from sandbox.linux.syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)

_SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC

# Documentation/admin-guide/devices.txt
_DEVICES = (
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
)
_DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
# What tells of the host, or has had holes: the union of what runc and podman hide today.
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kallsyms",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)
READ_ONLY = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def standard_mounts(
    *, shm_size: int, tty_group: int | None, new_netns: bool, cgroup: bool, masked: bool
) -> tuple[Step, ...]:
    """Return /proc, /sys and /dev.

    *tty_group* is the group that owns terminals (5 where the user namespace has it); sysfs can be
    mounted only by the owner of the network namespace, so without a new one the host's is bound.
    """
    pts: list[tuple[str, str | None]] = [
        ("newinstance", None),
        ("ptmxmode", "0666"),
        ("mode", "0620"),
    ]
    if tty_group is not None:
        pts.append(("gid", str(tty_group)))
    steps: list[Step] = [
        NewMount("proc", "/proc", attributes=_SAFE),
        NewMount("sysfs", "/sys", attributes=_SAFE | MOUNT_ATTR_RDONLY)
        if new_netns
        else BindMount("/sys", "/sys", readonly=True, attributes=_SAFE),
        NewMount(
            "tmpfs",
            "/dev",
            (("mode", "0755"), ("size", "64k"), ("nr_inodes", "256")),
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        ),
        *(DeviceMount(f"/dev/{name}", f"/dev/{name}", numbers) for name, numbers in _DEVICES),
        *(Symlink(f"/dev/{name}", to) for name, to in _DEV_LINKS),
        NewMount("devpts", "/dev/pts", tuple(pts), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC),
        NewMount("tmpfs", "/dev/shm", _shm_options(shm_size), _SAFE),
        NewMount("mqueue", "/dev/mqueue", (), _SAFE, optional=True),
    ]
    if cgroup and new_netns:
        steps.append(
            NewMount("cgroup2", "/sys/fs/cgroup", (), _SAFE | MOUNT_ATTR_RDONLY, optional=True)
        )
    if masked:
        steps += [ReadOnly(path) for path in READ_ONLY]
        steps += [Masked(path) for path in MASKED]
    return tuple(steps)


def _shm_options(size: int) -> tuple[tuple[str, str], ...]:
    """Sized, in inodes too: tmpfs(5) allows as many as half the machine has pages else."""
    return ("mode", "1777"), ("size", str(size)), ("nr_inodes", str(max(size >> 12, 64)))

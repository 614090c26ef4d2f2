"""What the container's init will do, as frozen data: carrying it out is one loop, and describing
it is `--debug`.

Targets are absolute paths inside the container. They are resolved below its root by descriptor,
so a symbolic link in an image leads nowhere else.
"""

from __future__ import annotations

from msgspec import Struct, field

from sandbox.linux.idmap import Map
from sandbox.spec import Ulimit

Option = tuple[str, str | None]


class FuseRoot(Struct, frozen=True):
    """The root is served by the overlay server: mount FUSE and hand it the descriptor."""

    readonly: bool = False

    def describe(self) -> str:
        return f"root: fuse overlay{' (read-only)' if self.readonly else ''}"


class KernelOverlayRoot(Struct, frozen=True):
    """The root is the kernel's overlayfs (overlayfs.rst)."""

    lower: tuple[str, ...]
    upper: str
    work: str
    readonly: bool = False

    def describe(self) -> str:
        return f"root: kernel overlay, lower {':'.join(self.lower)}, upper {self.upper}"


Root = FuseRoot | KernelOverlayRoot


class NewMount(Struct, frozen=True):
    """A new file system of the kernel's: proc, sysfs, tmpfs, devpts, mqueue, cgroup2."""

    fstype: str
    target: str
    options: tuple[Option, ...] = ()
    attributes: int = 0  # MOUNT_ATTR_ flags
    optional: bool = False  # where the kernel refuses it, go on without
    follow: bool = False  # links of the image on the way to the target are followed

    def describe(self) -> str:
        options = ",".join(k if v is None else f"{k}={v}" for k, v in self.options)
        return f"{self.fstype} on {self.target} ({options or 'defaults'})"


class BindMount(Struct, frozen=True):
    """A host file or directory, with what is mounted below it."""

    source: str
    target: str
    readonly: bool = False
    recursive: bool = True
    attributes: int = 0

    def describe(self) -> str:
        return f"bind {self.source} on {self.target} ({'ro' if self.readonly else 'rw'})"


class DeviceMount(Struct, frozen=True):
    """A host device node bound into /dev; its numbers are checked on the descriptor."""

    source: str
    target: str
    device: tuple[int, int] | None = None  # expected (major, minor)

    def describe(self) -> str:
        return f"device {self.source} on {self.target}"


class Symlink(Struct, frozen=True):
    """A symbolic link in a file system of ours (/dev)."""

    target: str
    to: str

    def describe(self) -> str:
        return f"link {self.target} -> {self.to}"


class TextFile(Struct, frozen=True):
    """A small file (/etc/hosts …) bound from a tmpfs, so that no host path shows in mountinfo."""

    target: str
    content: str
    optional: bool = False  # only where its directory exists
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)  # uid and gid in the container, as far as they are mapped

    def describe(self) -> str:
        return f"file {self.target} ({len(self.content)} bytes)"


class Masked(Struct, frozen=True):
    """A path of /proc or /sys that is hidden: /dev/null over a file, else an empty tmpfs."""

    target: str

    def describe(self) -> str:
        return f"masked {self.target}"


class ReadOnly(Struct, frozen=True):
    """A path of /proc or /sys that is bound onto itself read-only."""

    target: str

    def describe(self) -> str:
        return f"read-only {self.target}"


Step = NewMount | BindMount | DeviceMount | Symlink | TextFile | Masked | ReadOnly


class ProcessPlan(Struct, frozen=True):
    """The command and all that is set before it is executed."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str  # user[:group] as in docker
    capabilities: frozenset[str]
    filters: tuple[bytes, ...]  # seccomp programs in the order to load them
    notify: bool = False  # the last filter has a listener, sent to the supervisor
    ulimits: tuple[Ulimit, ...] = ()
    landlock: bool = True
    host_network: bool = False  # the abstract UNIX sockets of the host are within reach
    tty: bool = False
    init: bool = False
    create_cwd: bool = True
    single_uid: bool = False
    first_ids: tuple[int, int] = (0, 0)  # uid and gid to set up with: root's, or the only ones

    def describe(self) -> str:
        return (
            f"exec {' '.join(self.argv)!r} in {self.cwd} as {self.user or 'root'}, "
            f"capabilities {','.join(sorted(self.capabilities)) or 'none'}, "
            f"{len(self.filters)} seccomp filter(s)"
        )


class ContainerPlan(Struct, frozen=True):
    """All of it, from the user namespace to the command."""

    root: Root
    steps: tuple[Step, ...]
    process: ProcessPlan
    uid_map: Map
    gid_map: Map
    hostname: str
    namespaces: int  # CLONE_NEW… flags besides the user's
    sysctls: tuple[tuple[str, str], ...] = field(default=())
    processes: int | None = None  # at most, by a user namespace between (`linux.process_count`)

    def describe(self) -> list[str]:
        """Return the plan as lines for a person."""
        ids = "; ".join(str(r) for r in self.uid_map), "; ".join(str(r) for r in self.gid_map)
        return [
            f"uid_map {ids[0]}, gid_map {ids[1]} (inside, storage id, count)",
            self.root.describe(),
            *(step.describe() for step in self.steps),
            *(f"sysctl {name} = {value}" for name, value in self.sysctls),
            f"hostname {self.hostname}",
            self.process.describe(),
        ]

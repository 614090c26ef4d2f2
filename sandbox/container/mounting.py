"""Carrying out a mount plan, by file descriptor.

Nothing here follows a path string into the image: every target is resolved below the root's
descriptor with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), and mounts are attached to the
object found. The container's processes do not exist yet, so nothing can be swapped meanwhile;
links that the image brought along end inside the root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from sandbox.container.plan import (
    BindMount,
    DeviceMount,
    KernelOverlayRoot,
    Masked,
    NewMount,
    Root,
    Step,
    Symlink,
    TextFile,
)
from sandbox.errors import InvalidSpec, Unavailable
from sandbox.linux.idmap import read_map
from sandbox.linux.mount_api import attach, new_mount, open_fuse
from sandbox.linux.syscalls import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    mount_setattr,
    open_tree,
    openat2,
    pivot_root,
    setns,
    umount2,
)

# Links of the image are followed, inside the root, for what the user mounts …
_FOLLOW = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
# … and never for what isolates: an image whose /proc is a link is refused (CVE-2019-19921).
_STRICT = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
_FILES = "/dev/.sbx"  # for a moment: the tmpfs of the text files
_ROOT_ATTRIBUTES = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV


def collect_sources(steps: tuple[Step, ...]) -> dict[str, list[int]]:
    """Return detached copies of the host trees that the plan binds, by host path: one for each use.

    Done while the process still has the user's own id (who may look where a shifted root may not)
    and the host's tree is its root. Raises InvalidSpec for a source that does not exist.
    """
    sources: dict[str, list[int]] = {}
    for step in steps:
        if isinstance(step, BindMount | DeviceMount):
            recursive = AT_RECURSIVE if isinstance(step, BindMount) and step.recursive else 0
            flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive
            try:
                tree = open_tree(-100, step.source, flags)
            except OSError as err:
                raise InvalidSpec(
                    f"cannot mount {step.source} on {step.target}", detail=err.strerror
                ) from err
            sources.setdefault(step.source, []).append(tree)
    return sources


def mount_root(root: Root, hand_over: Callable[[int], None]) -> int:
    """Return the descriptor of the (still detached) root mount.

    For FUSE, *hand_over* gets the descriptor of /dev/fuse and passes it to the overlay server.
    """
    if isinstance(root, KernelOverlayRoot):
        return _kernel_overlay(root)
    # The mounter's user namespace has to be the opener's: open it here, not in the server.
    device = open_fuse()
    uid, gid = first_ids()
    options = (
        ("fd", str(device)),
        ("rootmode", "40000"),
        ("user_id", str(uid)),
        ("group_id", str(gid)),
        ("allow_other", None),
        ("default_permissions", None),
    )
    mount = new_mount("fuse", options, _ROOT_ATTRIBUTES, source="sbx")
    hand_over(device)
    os.close(device)
    return mount


def first_ids() -> tuple[int, int]:
    """Return the uid and gid to set up with: root's, or where just one id is mapped, that one."""
    uids = read_map("/proc/self/uid_map")
    gids = read_map("/proc/self/gid_map")
    return min(part.inside for part in uids), min(part.inside for part in gids)


def _kernel_overlay(root: KernelOverlayRoot) -> int:
    options = (
        ("lowerdir", ":".join(_escape(path) for path in root.lower)),
        ("upperdir", root.upper),
        ("workdir", root.work),
        ("userxattr", None),
    )
    try:
        return new_mount("overlay", options, _ROOT_ATTRIBUTES, source="sbx")
    except OSError as err:
        raise Unavailable(
            "the kernel's overlay can't be mounted here",
            detail=str(err),
            hint="--overlay fuse",
        ) from err


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")


class Mounter:
    """Carries out the steps below one root."""

    def __init__(self, root: int, sources: dict[str, list[int]]) -> None:
        self._root = root
        self._sources = sources
        self._files: int | None = None  # a tmpfs that holds the text files
        self.texts: dict[str, int] = {}  # the text files by target, open for writing

    def carry_out(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            try:
                self._carry_out(step)
            except OSError as err:
                if isinstance(step, NewMount) and step.optional:
                    continue
                raise Unavailable(
                    f"cannot set up the container: {step.describe()}", detail=str(err)
                ) from err

    def finish(self) -> None:
        """Take away what only the plan itself needed."""
        if self._files is not None:
            umount2(f"/proc/self/fd/{self._files}", MNT_DETACH)
            os.close(self._files)
            self._files = None
            parent = self._directory(os.path.dirname(_FILES), _STRICT)
            os.rmdir(os.path.basename(_FILES), dir_fd=parent)
            os.close(parent)

    def _carry_out(self, step: Step) -> None:
        if isinstance(step, NewMount):
            mount = new_mount(step.fstype, step.options, step.attributes, source=step.fstype)
            resolve = _FOLLOW if step.follow else _STRICT
            self._attach(mount, self._directory(step.target, resolve))
        elif isinstance(step, BindMount):
            self._bind(step)
        elif isinstance(step, DeviceMount):
            self._device(step)
        elif isinstance(step, Symlink):
            parent = self._directory(os.path.dirname(step.target), _STRICT)
            os.symlink(step.to, os.path.basename(step.target), dir_fd=parent)
            os.close(parent)
        elif isinstance(step, TextFile):
            self._text_file(step)
        elif isinstance(step, Masked):
            self._mask(step.target)
        else:
            self._read_only(step.target)

    def _bind(self, step: BindMount) -> None:
        source = self._sources[step.source].pop(0)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | step.attributes
        if step.readonly:
            attributes |= MOUNT_ATTR_RDONLY
        mount_setattr(source, "", AT_EMPTY_PATH | AT_RECURSIVE, attr_set=attributes)
        is_directory = stat.S_ISDIR(os.fstat(source).st_mode)
        find = self._directory if is_directory else self._file
        self._attach(source, find(step.target, _FOLLOW))

    def _device(self, step: DeviceMount) -> None:
        source = self._sources[step.source].pop(0)
        status = os.fstat(source)
        numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
        if not stat.S_ISCHR(status.st_mode) or numbers != (step.device or numbers):
            raise OSError(errno.ENODEV, f"not the device that it should be: {numbers}", step.source)
        mount_setattr(source, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
        self._attach(source, self._file(step.target, _STRICT))

    def _text_file(self, step: TextFile) -> None:
        if step.optional:
            parent = self._find(os.path.dirname(step.target))
            if parent is None:
                return
            os.close(parent)
        if self._files is None:
            options = (("mode", "0755"), ("size", "8m"))
            attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
            self._files = new_mount("tmpfs", options, attributes, source="sbx")
            # Before Linux 6.15 only what is attached can be cloned. It is taken away again when
            # the plan is carried out; what was cloned stays.
            place = self._directory(_FILES, _STRICT)
            attach(self._files, place)
            os.close(place)
        name = step.target.strip("/").replace("/", "_")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=self._files)
        self.texts[step.target] = file
        write_all(file, step.content.encode(errors="surrogateescape"))
        if step.owner != (0, 0):
            with contextlib.suppress(OSError):  # not mapped
                os.fchown(file, *step.owner)
        os.fchmod(file, step.mode)
        mount = open_tree(self._files, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        if step.mode & 0o111:
            mount_setattr(mount, "", AT_EMPTY_PATH, attr_clr=MOUNT_ATTR_NOEXEC)
        self._attach(mount, self._file(step.target, _FOLLOW))

    def _mask(self, target: str) -> None:
        found = self._find(target)
        if found is None:
            return
        if stat.S_ISDIR(os.fstat(found).st_mode):
            options = (("mode", "0555"), ("size", "4k"), ("nr_inodes", "2"))
            attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
            mount = new_mount("tmpfs", options, attributes | MOUNT_ATTR_NOEXEC, source="masked")
        else:
            null = openat2(self._root, "/dev/null", os.O_PATH, resolve=_STRICT)
            mount = open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
            os.close(null)
            mount_setattr(mount, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_RDONLY)
        attach(mount, found)
        os.close(mount)
        os.close(found)

    def _read_only(self, target: str) -> None:
        found = self._find(target)
        if found is None:
            return
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE
        mount = open_tree(found, "", flags)
        mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY)
        attach(mount, found)
        os.close(mount)
        os.close(found)

    def _find(self, target: str) -> int | None:
        try:
            return openat2(self._root, target, os.O_PATH, resolve=_STRICT)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _attach(self, mount: int, target: int) -> None:
        attach(mount, target)
        os.close(target)
        os.close(mount)

    def _directory(self, target: str, resolve: int) -> int:
        """Return an O_PATH descriptor of the directory *target*, made where it is missing."""
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return openat2(self._root, target, flags, resolve=resolve)
        except FileNotFoundError:
            pass
        parent = self._directory(os.path.dirname(target), resolve)
        try:
            os.mkdir(os.path.basename(target), 0o755, dir_fd=parent)
        except FileExistsError as err:  # a link whose end does not exist
            raise OSError(errno.ENOTDIR, "a link to nowhere is in the way", target) from err
        finally:
            os.close(parent)
        return openat2(self._root, target, flags, resolve=resolve)

    def _file(self, target: str, resolve: int) -> int:
        """Return an O_PATH descriptor of the file *target*, made empty where it is missing."""
        try:
            return openat2(self._root, target, os.O_PATH, resolve=resolve)
        except FileNotFoundError:
            pass
        os.close(self._directory(os.path.dirname(target), resolve))
        create = os.O_WRONLY | os.O_CREAT
        os.close(openat2(self._root, target, create, mode=0o644, resolve=resolve))
        return openat2(self._root, target, os.O_PATH, resolve=resolve)


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def enter_root(root: int) -> None:
    """Make the mount *root*, attached somewhere, the process's root, and let go of the host's.

    pivot_root(".", ".") stacks the old root on the new one, so no directory is needed for it
    (pivot_root(2), NOTES). That nothing but the new root is left is checked, not believed: whoever
    joins the namespace later (`exec`) starts at the topmost mount of its root, which would be the
    host's if a single mount too many had been stacked there. Raises Unavailable.
    """
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    os.fchdir(root)
    pivot_root(".", ".")
    umount2(".", MNT_DETACH)
    # setns(2) into the own namespace takes the process to the topmost mount of its root.
    setns(namespace, CLONE_NEWNS)
    os.close(namespace)
    os.chdir("/")
    if not os.path.samestat(os.stat("/"), os.fstat(root)):
        raise Unavailable("the host's root is still below the container's", hint="report this")


def make_root_readonly() -> None:
    """Make the root mount (not what is mounted below it) read-only."""
    mount_setattr(-100, "/", 0, attr_set=MOUNT_ATTR_RDONLY)


def bind_console(root: int, slave: int) -> None:
    """Bind the terminal over /dev/console, as runtimes do (config.md "terminal")."""
    create = os.O_WRONLY | os.O_CREAT
    os.close(openat2(root, "dev/console", create, mode=0o600, resolve=_STRICT))
    target = openat2(root, "dev/console", os.O_PATH, resolve=_STRICT)
    mount = open_tree(slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
    attach(mount, target)
    os.close(mount)
    os.close(target)

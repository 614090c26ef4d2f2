"""Apply a layer's changeset (OCI image specification, layer.md) to an empty directory.

The archive is hostile. Every name is resolved below the directory by openat2(2) with
RESOLVE_IN_ROOT, so `..` and symbolic links end at its root as in a chroot; the last component is
never followed. Device nodes are left out: an ordinary user can't make any, and sbx has its own
/dev. The result is in the overlay's format: whiteouts are character devices 0:0, opaque directories
carry `user.overlay.opaque` (Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct, field

from sandbox.errors import StoreError, harmless
from sandbox.image.content import write_all
from sandbox.image.limits import LayerLimits, check_free_space
from sandbox.image.ownership import OVERRIDE, Ownership, mapped_ids, override_stat
from sandbox.image.tar_stream import Entry
from sandbox.linux.syscalls import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)
from sandbox.linux.trees import remove_entry

_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_PARENT = os.O_PATH | os.O_DIRECTORY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTR = "user.overlay.opaque"
# Marks with a meaning to overlays or to us: an image has no say in them.
_RESERVED_XATTRS = ("user.overlay.", "trusted.", "user.fuseoverlayfs.", OVERRIDE)
# Fedora's archives carry a label for each file; labels are the host's affair.
_IGNORED_XATTRS = frozenset(("security.selinux",))
_KEPT_PARENTS = 128
_CHECK_SPACE_EVERY = 64 << 20  # bytes of files
_CHECK_SPACE_AFTER = 64  # entries: links and directories take space as well
_EARLIEST, _LATEST = -(1 << 31) * 10**9, ((1 << 34) - 1) * 10**9  # what ext4 can store


class Entries(Protocol):
    """Entries of an archive, as `TarStream` gives them."""

    def __iter__(self) -> Iterator[Entry]: ...
    def data(self) -> Iterator[memoryview]: ...


class Applied(Struct):
    """What came of it."""

    size: int = 0  # bytes of all files
    entries: int = 0
    # What was refused, by its kind ("device node"): how often, and the first names.
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, kind: str, name: bytes) -> None:
        self.left_out[kind] = self.left_out.get(kind, 0) + 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < 3:
            examples.append(printable(name))

    def describe_left_out(self) -> str:
        """Return `8 device nodes (dev/null, dev/zero, dev/tty …)`."""
        parts = []
        for kind, count in self.left_out.items():
            names = ", ".join(self.examples[kind]) + (" …" if count > 3 else "")
            parts.append(f"{count} {kind}{'s' if count > 1 else ''} ({names})")
        return harmless("; ".join(parts))


def apply_layer(
    stream: Entries,
    root: int,
    ownership: Ownership,
    limits: LayerLimits,
    *,
    marks: bool = True,
    ids: int | None = None,
) -> Applied:
    """Write the entries of *stream* below the directory *root* (a descriptor).

    Without *marks* names that begin with `.wh.` are names like others. *ids* is how many there are
    from 0 on (None: as this process's own /proc says).
    Raises StoreError when the archive is damaged or refused; the directory is then half done.
    """
    writer = _Writer(stream, root, ownership, marks=marks, ids=ids)
    try:
        for entry in stream:
            writer.applied.entries += 1
            if writer.applied.entries > limits.entries:
                raise StoreError("layer refused", detail=f"more than {limits.entries} entries")
            if writer.applied.entries % _CHECK_SPACE_AFTER == 0:
                check_free_space(root)
            _write_entry(writer, entry)
        writer.finish_directories()
    finally:
        writer.close()
    return writer.applied


def _write_entry(writer: _Writer, entry: Entry) -> None:
    try:
        writer.write(entry)
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError("no space left for images", hint="sbx system prune --all") from err
        raise StoreError(
            "layer refused", detail=f"{printable(entry.name)}: {err.strerror}"
        ) from err


def printable(name: bytes, most: int = 200) -> str:
    """Return a file's name for a message: without control characters, not too long."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else text[:most] + "…"


def split_name(name: bytes) -> list[bytes]:
    """Return the components of an entry's name. Raises StoreError when it contains `..`."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise StoreError("layer refused", detail=f"a name with '..': {printable(name)}")
    return parts


class _Writer:
    """Writes entries; keeps descriptors of the directories it was in last."""

    def __init__(
        self,
        stream: Entries,
        root: int,
        ownership: Ownership,
        *,
        marks: bool,
        ids: int | None,
    ) -> None:
        self.stream = stream
        self.marks = marks
        self.root = root
        self.recorded = ownership == "recorded"
        self.applied = Applied()
        self._parents: dict[bytes, int] = {}
        self._stale: list[int] = []  # closed when no maker can hold them any more
        self._directories: dict[bytes, tuple[int, int]] = {}  # mode and mtime, set at the end
        self._ids = 0
        if not self.recorded:
            self._ids = mapped_ids() if ids is None else ids
        self._space_checked_at = -_CHECK_SPACE_EVERY
        self._makers: dict[str, Callable[[Entry, int, bytes], None]] = {
            "file": self._file,
            "dir": self._directory,
            "symlink": self._symlink,
            "link": self._hard_link,
            "fifo": self._fifo,
        }

    def write(self, entry: Entry) -> None:
        self._close_stale()
        parts = split_name(entry.name)
        if not parts:
            if entry.kind == "dir":
                self._enter_directory(entry, self.root, b".", b".")
            return
        name = parts[-1]
        parent = self._parent(parts[:-1])
        if self.marks and name.startswith(_WHITEOUT):
            self._whiteout(parent, name)
        elif entry.kind == "device":
            self.applied.leave_out("device node", entry.name)
        else:
            self._makers[entry.kind](entry, parent, name)
            if entry.kind == "dir":
                self._enter_directory(entry, parent, name, b"/".join(parts))

    # ── directories on the way ──

    def _parent(self, parts: list[bytes]) -> int:
        if not parts:
            return self.root
        path = b"/".join(parts)
        found = self._parents.get(path)
        if found is None:
            found = self._open_or_make(parts, path)
            if len(self._parents) >= _KEPT_PARENTS:
                self.forget_parents()
            self._parents[path] = found
        return found

    def _open_or_make(self, parts: list[bytes], path: bytes) -> int:
        try:
            return openat2(self.root, os.fsdecode(path), _PARENT, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):
            pass
        # Each step is resolved from the root: a link on the way may lead anywhere below it.
        above = os.dup(self.root)
        for depth, name in enumerate(parts, 1):
            try:
                self._make_directory(above, name, 0o755)
            finally:
                os.close(above)
            prefix = os.fsdecode(b"/".join(parts[:depth]))
            above = openat2(self.root, prefix, _PARENT, resolve=_RESOLVE)
        return above

    def _make_directory(self, parent: int, name: bytes, mode: int) -> None:
        """Make a directory unless there is one; where a whiteout was, an opaque one."""
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            status = os.lstat(name, dir_fd=parent)
            if _is_whiteout(status):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, mode, dir_fd=parent)
                self._set_opaque(parent, name)
            elif not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                raise

    def forget_parents(self) -> None:
        """Forget where names led: something on the way may be another thing now."""
        self._stale += self._parents.values()
        self._parents.clear()

    def close(self) -> None:
        self.forget_parents()
        self._close_stale()

    def _close_stale(self) -> None:
        for descriptor in self._stale:
            os.close(descriptor)
        self._stale.clear()

    def _enter_directory(self, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        """Set the directory's attributes; what later entries would change waits for the end."""
        descriptor = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        try:
            self._attributes(entry, descriptor, mode=entry.mode | 0o700, directory=True)
        finally:
            os.close(descriptor)
        self._directories[path] = (entry.mode, _moment(entry))

    def finish_directories(self) -> None:
        """Set the modes and times of directories, the deepest first."""
        for path in sorted(self._directories, key=lambda p: p.count(b"/") + (p != b"."))[::-1]:
            mode, moment = self._directories[path]
            try:
                descriptor = openat2(
                    self.root,
                    os.fsdecode(path),
                    os.O_RDONLY | os.O_DIRECTORY,
                    resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
                )
            except OSError:
                continue  # something else took its place later in the archive
            try:
                if mode & 0o700 != 0o700:
                    os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(moment, moment))
            finally:
                os.close(descriptor)

    # ── one maker for each kind ──

    def _file(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            if entry.parts is None:
                for view in self.stream.data():
                    self._write(descriptor, view)
            else:
                self._write_sparse(entry, descriptor)
            self._attributes(entry, descriptor, mode=entry.mode, directory=False)
            moment = _moment(entry)
            os.utime(descriptor, ns=(moment, moment))
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, view: memoryview) -> None:
        self.applied.size += len(view)
        if self.applied.size - self._space_checked_at >= _CHECK_SPACE_EVERY:
            self._space_checked_at = self.applied.size
            check_free_space(self.root)
        write_all(descriptor, view)

    def _write_sparse(self, entry: Entry, descriptor: int) -> None:
        os.ftruncate(descriptor, entry.size)
        parts = iter(entry.parts or ())
        left = 0
        for data in self.stream.data():
            view = data
            while view:
                if not left:
                    offset, left = next(parts)
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    continue
                self._write(descriptor, view[:left])
                written = min(left, len(view))
                view, left = view[written:], left - written

    def _directory(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            self._make_directory(parent, name, 0o700)
        except FileExistsError:
            self._clear(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
            return
        if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            self._clear(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)

    def _symlink(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.symlink(entry.link, name, dir_fd=parent)
        self._attributes_without_descriptor(entry, parent, name)

    def _hard_link(self, entry: Entry, parent: int, name: bytes) -> None:
        target = split_name(entry.link)
        if not target:
            raise StoreError("layer refused", detail="a hard link to the root")
        source = self._parent(target[:-1])
        if self._same(source, target[-1], parent, name):
            return
        try:
            self._link(source, target[-1], parent, name)
        except FileExistsError:
            self._clear(parent, name)
            self._link(source, target[-1], parent, name)

    def _link(self, source: int, target: bytes, parent: int, name: bytes) -> None:
        os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _same(self, source: int, target: bytes, parent: int, name: bytes) -> bool:
        try:
            one = os.lstat(target, dir_fd=source)
            other = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

    def _fifo(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.mkfifo(name, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.mkfifo(name, 0o600, dir_fd=parent)
        self._attributes_without_descriptor(entry, parent, name)
        os.chmod(name, entry.mode, dir_fd=parent)

    def _whiteout(self, parent: int, name: bytes) -> None:
        hidden = name.removeprefix(_WHITEOUT)
        if name == _OPAQUE:
            self._set_opaque(parent, b".")
        elif hidden.startswith(_WHITEOUT):
            self.applied.leave_out("unknown mark", name)  # aufs's own
        elif hidden in (b"", b".", b".."):
            raise StoreError("layer refused", detail=f"a whiteout of {hidden.decode()!r}")
        else:
            self._hide(parent, hidden)

    def _hide(self, parent: int, name: bytes) -> None:
        """Hide what lower layers have at *name*; what this layer has there stays."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._set_opaque(parent, name)

    def _set_opaque(self, parent: int, name: bytes) -> None:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        try:
            os.setxattr(descriptor, _OPAQUE_XATTR, b"y")
        finally:
            os.close(descriptor)

    def _clear(self, parent: int, name: bytes) -> None:
        """Remove what an earlier entry made at *name*."""
        if _is_whiteout(os.lstat(name, dir_fd=parent)):
            os.unlink(name, dir_fd=parent)
            return
        remove_entry(name, parent)
        self.forget_parents()

    # ── attributes: the owner first, since chown(2) takes setuid bits and capabilities away ──

    def _attributes(self, entry: Entry, descriptor: int, *, mode: int, directory: bool) -> None:
        if entry.uid or entry.gid:
            if self.recorded:
                value = override_stat(entry.uid, entry.gid, entry.mode, directory=directory)
                os.setxattr(descriptor, OVERRIDE, value)
            else:
                self._check_ids(entry)
                os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, mode)
        for name, value in entry.xattrs.items():
            self._set_xattr(entry, descriptor, name, value)

    def _attributes_without_descriptor(self, entry: Entry, parent: int, name: bytes) -> None:
        """As `_attributes`, for what can't be opened and has no user xattrs (xattr(7))."""
        if (entry.uid or entry.gid) and not self.recorded:
            self._check_ids(entry)
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        moment = _moment(entry)
        os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)

    def _check_ids(self, entry: Entry) -> None:
        if entry.uid >= self._ids or entry.gid >= self._ids:
            raise StoreError(
                "layer refused: too few subordinate ids",
                detail=f"{printable(entry.name)} belongs to {entry.uid}:{entry.gid}, "
                f"there are ids up to {self._ids - 1}",
                hint="give this user more ids: sudo usermod --add-subuids FIRST-LAST "
                "--add-subgids FIRST-LAST USER",
            )

    def _set_xattr(self, entry: Entry, descriptor: int, name: str, value: bytes) -> None:
        if name.startswith(_RESERVED_XATTRS):
            self.applied.leave_out("reserved attribute", os.fsencode(name))
            return
        if name in _IGNORED_XATTRS:
            return
        try:
            os.setxattr(descriptor, name, value)
        except (OSError, ValueError):
            self.applied.leave_out(f"{printable(os.fsencode(name))} attribute", entry.name)


def _moment(entry: Entry) -> int:
    return min(max(entry.mtime_ns, _EARLIEST), _LATEST)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

"""What is known of every container, on disk.

Each container is a directory below `Paths.containers`, named by its id:

    spec.json    the ContainerSpec: written once, but for `rename` and `update`
    status.json  the Status, replaced whole (write aside, fsync, rename)
    log.jsonl    output in docker's json-file format, rotated
    upper/ work/ the overlay's own directories

and a symbolic link `names/NAME -> id` beside them claims a name: symlink(2) fails when it is there,
so two commands never share a name. A directory spare-ID is a container being made, or one that
was made before anybody asked for it; what a crash left of it goes with the next `reconcile`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from sandbox.errors import Conflict, InvalidSpec, NotFound
from sandbox.linux.processes import ProcessRef
from sandbox.linux.trees import remove_tree
from sandbox.paths import Paths, make_private
from sandbox.spec import ContainerSpec, from_json, to_json

# "starting": it was there before, so what a crash leaves of it is kept.
Phase = Literal["created", "starting", "running", "exited"]
SPARE = "spare-"
# Names as docker allows them.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Denial(Struct, frozen=True):
    """A system call that seccomp denied: recorded by --explain."""

    syscall: str
    program: str
    rule: str
    count: int = 1


class Status(Struct, frozen=True):
    """What a container is doing."""

    phase: Phase = "created"
    supervisor: ProcessRef | None = None
    init: ProcessRef | None = None  # the container's pid 1, as the host sees it
    cgroup: str = ""  # absolute path of its cgroup; "" without one
    started_at: float | None = None  # seconds since the epoch
    finished_at: float | None = None
    exit_code: int | None = None
    paused: bool = False
    oom_killed: bool = False
    timed_out: bool = False
    error: str = ""  # why it did not start or was ended by sbx
    ports: tuple[str, ...] = ()  # as `sbx ps` prints them: "0.0.0.0:8080->80/tcp"
    warnings: tuple[str, ...] = ()
    enforced: tuple[tuple[str, str], ...] = ()  # limit, what enforces it
    not_enforced: tuple[tuple[str, str], ...] = ()  # limit, why nothing does
    denials: tuple[Denial, ...] = ()  # counted with --explain alone


class Container(Struct, frozen=True):
    """A container as found on disk."""

    directory: Path
    spec: ContainerSpec
    status: Status

    @property
    def running(self) -> bool:
        """True while its supervisor lives, whatever the file says."""
        supervisor = self.status.supervisor
        return self.status.phase != "exited" and supervisor is not None and supervisor.alive()

    @property
    def abandoned(self) -> bool:
        """True when its supervisor died without telling how it ended."""
        return (
            self.status.phase != "exited"
            and self.status.supervisor is not None
            and not self.status.supervisor.alive()
        )

    @property
    def log(self) -> Path:
        return self.directory / "log.jsonl"


class Containers:
    """All containers of one user."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.root = paths.containers
        self.names = paths.containers / "names"

    def create(self, spec: ContainerSpec, status: Status) -> Path:
        """Claim the name and write the spec; return the container's directory.

        *status* names the supervisor: the process whose end will be the container's; without one it
        waits to be started.

        Raises Conflict when the name is in use, InvalidSpec when it is not a name.
        """
        directory = self.create_spare(spec.id, status)
        try:
            return self.adopt(directory, spec)
        except BaseException:
            with suppress(OSError):
                remove_tree(directory)
            raise

    def create_spare(self, container_id: str, status: Status) -> Path:
        """Return the directory of a container that nobody has asked for yet, and nobody sees."""
        make_private(self.root)
        directory = self.root / f"{SPARE}{container_id}"
        with self.lock(shared=True):
            directory.mkdir(mode=0o700)
            self.write_status(directory, status)
        return directory

    def adopt(
        self, directory: Path, spec: ContainerSpec, claimed: Callable[[], None] = lambda: None
    ) -> Path:
        """Make *directory*, of a spare, that of the container *spec*. Raises as `create`.

        *claimed* is called when the name is its own and nothing but the writing is left.
        """
        check_name(spec.name)
        make_private(self.names)
        for shared in (True, False):
            with self.lock(shared=shared):
                if not self._claim(spec, alone=not shared):
                    continue
                try:
                    claimed()
                    self.write_spec(directory, spec)
                    directory.rename(self.root / spec.id)
                except BaseException:
                    self.release_name(spec)
                    raise
                break
        return self.root / spec.id

    def spares(self) -> Iterator[tuple[Path, Status]]:
        """Yield what `create_spare` made and `adopt` has not taken, with the maker's status."""
        with suppress(FileNotFoundError):
            for entry in os.listdir(self.root):
                if entry.startswith(SPARE):
                    yield self.root / entry, self.read_status(self.root / entry)

    def claim(self, container_id: str, supervisor: ProcessRef) -> Container:
        """Make *supervisor* that of a container which does not run, and return it as it was.

        Raises Conflict when it runs, or is just being started by somebody else.
        """
        with self.lock(shared=False):
            container = self.load(container_id)
            if container.running:
                raise Conflict(f"container {container.spec.name} is running already")
            self.write_status(container.directory, Status(phase="starting", supervisor=supervisor))
        return container

    def rename(self, container: Container, name: str) -> None:
        """Give *container* another name. Raises Conflict, InvalidSpec, NotFound."""
        check_name(name)
        with self.lock(shared=False):
            spec = self.load(container.spec.id).spec
            if spec.name == name:
                raise Conflict(f"container {name} has this name already")
            renamed = structs.replace(spec, name=name)
            self._claim(renamed, alone=True)
            self.write_spec(container.directory, renamed)
            self.release_name(spec)

    def release_name(self, spec: ContainerSpec) -> bool:
        """Let others have the name that *spec* has; False when it is not this container's."""
        link = self.names / spec.name
        try:
            if os.readlink(link) == spec.id:
                link.unlink()
                return True
        except OSError:
            pass
        return False

    @contextmanager
    def lock(self, *, shared: bool) -> Iterator[None]:
        """Hold the lock (flock(2)) that keeps `reconcile` from what is only half made."""
        make_private(self.root)
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _claim(self, spec: ContainerSpec, *, alone: bool) -> bool:
        """Take the name. False: it leads nowhere, which whoever is alone can tell for a crash's."""
        link = self.names / spec.name
        try:
            link.symlink_to(spec.id)
        except FileExistsError:
            holder = os.readlink(link)
            if (self.root / holder / "spec.json").exists():
                raise Conflict(
                    f'the container name "{spec.name}" is in use by container {holder[:12]}',
                    hint=f"sbx rm {spec.name}",
                ) from None
            if not alone:
                return False
            link.unlink()
            link.symlink_to(spec.id)
        return True

    def load(self, container_id: str) -> Container:
        """Return the container with this full id. Raises NotFound."""
        directory = self.root / container_id
        try:
            spec = from_json(ContainerSpec, json.loads((directory / "spec.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"no such container: {container_id}") from None
        return Container(directory, spec, self.read_status(directory))

    def read_status(self, directory: Path) -> Status:
        try:
            return from_json(Status, json.loads((directory / "status.json").read_bytes()))
        except FileNotFoundError:
            return Status()

    def write_spec(self, directory: Path, spec: ContainerSpec) -> None:
        write_atomically(directory / "spec.json", json.dumps(to_json(spec)), durable=False)

    def write_status(self, directory: Path, status: Status) -> None:
        write_atomically(directory / "status.json", json.dumps(to_json(status)), durable=False)

    def update_status(self, directory: Path, **changes: Any) -> Status:
        """Change some fields. Only the container's supervisor (or, when that is dead, the holder of
        the reconcile lock) may call this."""
        status = structs.replace(self.read_status(directory), **changes)
        self.write_status(directory, status)
        return status

    def all(self) -> Iterator[Container]:
        """Yield every container, in no order."""
        try:
            entries = os.listdir(self.root)
        except FileNotFoundError:
            return
        for entry in entries:
            if len(entry) == 64:
                try:
                    yield self.load(entry)
                except (NotFound, ValueError, TypeError):
                    continue

    def find(self, reference: str) -> Container:
        """Return the container with this name, id, or unique beginning of an id.

        Raises NotFound, or Conflict when several ids begin so.
        """
        if _NAME.fullmatch(reference):
            try:
                return self.load(os.readlink(self.names / reference))
            except (FileNotFoundError, NotFound):
                pass
        matches = []
        if re.fullmatch(r"[0-9a-f]+", reference) and self.root.is_dir():
            matches = [e for e in os.listdir(self.root) if len(e) == 64 and e.startswith(reference)]
        if len(matches) > 1:
            raise Conflict(f"several container ids begin with {reference}", hint="give more digits")
        if not matches:
            raise NotFound(f"no such container: {reference}", hint="sbx ps -a")
        return self.load(matches[0])


def check_name(name: str) -> None:
    """Raise InvalidSpec when *name* is none for a container."""
    if not _NAME.fullmatch(name):
        raise InvalidSpec(
            f"invalid container name {name!r}",
            hint="use letters, digits, '_', '.' and '-'; begin with a letter or a digit",
        )


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace *path* by *content*: a reader sees the old or the new, never a part.

    With *durable* it survives a power cut as well (fsync before rename(2), then of the directory).
    """
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(aside, path)
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

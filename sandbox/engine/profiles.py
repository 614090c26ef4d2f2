"""Profiles: named settings of containers, as TOML.

The built-in ones lie in `profiles/`, a user's own in `Paths.profiles` and come first. A profile
sets defaults: what is asked for by hand wins, and what neither says is as in `default`. The format
is `profile_format.SECTIONS`; docs/profiles.md describes it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from sandbox.errors import InvalidSpec, NotFound
from sandbox.paths import Paths
from sandbox.spec import CgroupsMode, Mount, NetworkMode, OverlayDriver, Ulimit, UsernsMode

BUILT_IN = Path(__file__).resolve().parents[2] / "profiles"

ImageVolumes = Literal["anonymous", "tmpfs", "ignore"]
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_DEEPEST = 10


class Profile(Struct, frozen=True):
    """What a profile sets; None and () mean that it leaves it open."""

    name: str
    description: str = ""
    overlay: OverlayDriver | None = None
    read_only: bool | None = None
    storage_size: int | None = None
    storage_inodes: int | None = None
    shm_size: int | None = None
    mounts: tuple[Mount, ...] = ()
    mount_cwd: bool | None = None
    image_volumes: ImageVolumes | None = None
    capabilities: tuple[str, ...] | None = None
    seccomp: str | None = None
    no_new_privileges: bool | None = None
    landlock: bool | None = None
    masked_paths: bool | None = None
    explain: bool | None = None
    network: NetworkMode | None = None
    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None
    timeout: float | None = None
    output: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    cgroups: CgroupsMode | None = None
    userns: UsernsMode | None = None
    user: str | None = None
    init: bool | None = None
    env: tuple[tuple[str, str], ...] = ()
    stop_timeout: float | None = None
    log_max_size: int | None = None
    log_max_files: int | None = None


def names(paths: Paths) -> list[str]:
    """Return the names of all profiles, sorted."""
    found = {file.stem for directory in _search(paths) for file in directory.glob("*.toml")}
    return sorted(found)


def load(name: str, paths: Paths, *, home: str = "/") -> Profile:
    """Return the profile called *name*, or that of a file when *name* holds a slash.

    What it `extends` is merged. *home* stands for `~` in its mounts. Raises NotFound, InvalidSpec.
    """
    return _load(find(name, paths), paths, home, depth=0)


def find(name: str, paths: Paths) -> Path:
    """Return the file of a profile. Raises NotFound."""
    if "/" in name:
        candidates = [Path(name)]
    elif _NAME.fullmatch(name):
        candidates = [directory / f"{name}.toml" for directory in _search(paths)]
    else:
        candidates = []
    for file in candidates:
        if file.is_file():
            return file
    raise _not_found(name, paths)


def _not_found(name: str, paths: Paths) -> NotFound:
    known = ", ".join(names(paths))
    return NotFound(f"no such profile: {name}", hint=f"sbx profile ls (there are {known})")


def _search(paths: Paths) -> tuple[Path, Path]:
    return paths.profiles, BUILT_IN


def _load(file: Path, paths: Paths, home: str, depth: int) -> Profile:
    if depth > _DEEPEST:
        raise InvalidSpec(f"{file}: profiles extend each other in a circle")
    fields = dict(_read(file, home))
    parent = fields.pop("extends", None)
    base = Profile(file.stem)
    if parent is not None:
        base = _load(_parent(parent, file, paths), paths, home, depth + 1)
    return _merge(base, file.stem, fields)


def _parent(name: str, file: Path, paths: Paths) -> Path:
    """Return the file that *file* extends; a user's `default` may extend the built-in one."""
    if name == file.stem and file.parent != BUILT_IN and (BUILT_IN / file.name).is_file():
        return BUILT_IN / file.name
    return find(name, paths)


def warm(home: str) -> None:
    """Read the built-in profiles, for processes that are forked from this one."""
    for file in BUILT_IN.glob("*.toml"):
        _read(file, home)


def _read(file: Path, home: str) -> dict[str, Any]:
    try:
        status = file.stat()
        return _fields(str(file), home, status.st_ino, status.st_mtime_ns, status.st_size)
    except OSError as err:
        raise InvalidSpec(f"can't read {file}", detail=err.strerror) from err


@lru_cache(maxsize=64)
def _fields(file: str, home: str, *_version: int) -> dict[str, Any]:
    """Return what a file sets. Nobody changes it: it is kept while the file stays the same."""
    import tomllib

    from sandbox.engine.profile_format import fields_from

    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise InvalidSpec(f"{file}: not TOML", detail=str(err)) from err
    return fields_from(document, file, home)


def _merge(base: Profile, name: str, fields: dict[str, Any]) -> Profile:
    """Return *base* changed by *fields*; mounts, limits and variables add up by their names."""
    merged = dict(fields)
    for field, key in (("mounts", "target"), ("ulimits", "name")):
        if field in fields:
            both = {getattr(item, key): item for item in (*getattr(base, field), *fields[field])}
            merged[field] = tuple(both.values())
    if "env" in fields:
        merged["env"] = tuple({**dict(base.env), **dict(fields["env"])}.items())
    merged.setdefault("description", "")
    return structs.replace(base, name=name, **merged)

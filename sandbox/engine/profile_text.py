"""A profile as TOML again, with what it extends merged in."""

from __future__ import annotations

from typing import Any

from sandbox.engine.profile_format import SECTIONS
from sandbox.engine.profiles import Profile
from sandbox.spec import Mount, Ulimit

_BYTES = frozenset(("storage_size", "shm_size", "memory", "memory_swap", "output", "log_max_size"))
_SECONDS = frozenset(("timeout", "stop_timeout"))


def profile_text(profile: Profile) -> str:
    """Return TOML that reads as *profile* (its name apart)."""
    lines = [f"description = {_quoted(profile.description)}"]
    for section, keys in SECTIONS.items():
        values = {name: _value(profile, key.field) for name, key in keys.items()}
        given = [f"{name} = {value}" for name, value in values.items() if value is not None]
        if given:
            lines += ["", f"[{section}]", *given]
    return "\n".join(lines) + "\n"


def _value(profile: Profile, field: str) -> str | None:
    """Return a field as TOML; None when the profile leaves it open."""
    if field in ("tmpfs", "volumes"):
        return _mounts(profile.mounts, tmpfs=field == "tmpfs")
    value = getattr(profile, field)
    if value is None or (value == () and field != "capabilities"):
        return None
    if field in _BYTES:
        return _quoted(size_text(value))
    if field in _SECONDS:
        return _quoted(f"{value:.9g}s" if value < 1e9 else f"{value:.0f}s")
    if field == "env":
        return f"{{ {', '.join(f'{_quoted(k)} = {_quoted(v)}' for k, v in value)} }}"
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, Ulimit):
        return _quoted(f"{value.name}={value.soft}:{value.hard}")
    if isinstance(value, int | float):
        return str(value)
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """Return *text* as a basic string (TOML 1.0, "String")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
    )


def _mounts(mounts: tuple[Mount, ...], *, tmpfs: bool) -> str | None:
    spell = _tmpfs if tmpfs else _volume
    texts = [spell(mount) for mount in mounts if (mount.type == "tmpfs") is tmpfs]
    return f"[{', '.join(_quoted(text) for text in texts)}]" if texts else None


def _tmpfs(mount: Mount) -> str:
    options = [
        *([f"size={size_text(mount.size)}"] if mount.size is not None else []),
        *([f"mode={mount.mode:o}"] if mount.mode is not None else []),
        *(["ro"] if mount.readonly else []),
        *mount.options,
    ]
    return f"{mount.target}:{','.join(options)}" if options else mount.target


def _volume(mount: Mount) -> str:
    options = [*(["ro"] if mount.readonly else []), *mount.options]
    parts = [mount.source, mount.target, ",".join(options)]
    return ":".join(part for part in parts if part)


def size_text(size: int) -> str:
    """Return *size* in the largest unit that divides it: `64m`."""
    if size <= 0:
        return str(size)
    for unit in ("t", "g", "m", "k"):
        factor = 1024 ** (" kmgt".index(unit))
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)

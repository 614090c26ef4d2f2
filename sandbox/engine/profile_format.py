"""The format of profiles: sections and keys, each with its meaning and its reader, as data.

Reading is strict: an unknown section or key, or a value of the wrong kind, is an error that says
what was probably meant. A misspelt limit must not be a limit that isn't there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from sandbox.engine import options, sizes
from sandbox.engine.mount_syntax import parse_tmpfs, parse_volume
from sandbox.errors import InvalidSpec, SbxError

Reader = Callable[[Any], Any]


class WrongKind(ValueError):
    """The value is not what the key takes; the text says what it takes."""


class Key(Struct, frozen=True):
    """One key of a section: the field of Profile that it sets, how it is read, what it means."""

    field: str
    read: Reader
    meaning: str
    example: str


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongKind("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongKind("a string")
    return value


def _one_of(*choices: str) -> Reader:
    def read(value: Any) -> str:
        if value not in choices:
            raise WrongKind(f"one of {', '.join(choices)}")
        return str(value)

    return read


def _parsed(parse: Callable[[str], Any], *, number: bool = True) -> Reader:
    """Return a reader for what the command line takes as well; *number*: also without quotes."""

    def read(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise WrongKind("a string or a number" if number else "a string")
        if not number and not isinstance(value, str):
            raise WrongKind("a string")
        return parse(str(value))

    return read


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WrongKind("a list of strings")
    return tuple(value)


def _list_of(parse: Callable[[str], Any]) -> Reader:
    return lambda value: tuple(parse(item) for item in _texts(value))


def _capabilities(value: Any) -> tuple[str, ...]:
    from sandbox.linux import capabilities

    return tuple(sorted({capabilities.normalize(name) for name in _texts(value)}))


def _variables(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise WrongKind("a table of strings")
    return tuple(value.items())


_SIZE = _parsed(sizes.parse_size)
_COUNT = _parsed(lambda text: sizes.parse_count(text, "number"))
_DURATION = _parsed(sizes.parse_duration)

TOP = {
    "description": Key("description", _text, "One line for `sbx profile ls`.", '"for builds"'),
    "extends": Key("extends", _text, "The profile that this one changes.", '"default"'),
}

SECTIONS: dict[str, dict[str, Key]] = {
    "filesystem": {
        "overlay": Key(
            "overlay",
            _one_of("fuse", "kernel"),
            "Driver of the root's overlay. `kernel` is taken where the kernel can: not for the "
            "image `host`, and not with a quota.",
            '"fuse"',
        ),
        "read_only": Key("read_only", _boolean, "The root can't be written.", "false"),
        "size": Key(
            "storage_size", _SIZE, "Bytes that the container may write to its root.", '"256m"'
        ),
        "inodes": Key(
            "storage_inodes", _COUNT, "Files that the container may create in its root.", "10000"
        ),
        "shm_size": Key("shm_size", _SIZE, "Size of /dev/shm.", '"64m"'),
        "tmpfs": Key(
            "tmpfs", _list_of(parse_tmpfs), "Mounts as for `--tmpfs`.", '["/tmp:size=64m"]'
        ),
        "volumes": Key(
            "volumes", _texts, "Mounts as for `-v`; `~` is your home.", '["~/data:/data:ro"]'
        ),
        "mount_cwd": Key(
            "mount_cwd",
            _boolean,
            "Your current directory is there too, writable, and is where the command starts.",
            "false",
        ),
        "image_volumes": Key(
            "image_volumes",
            _one_of("anonymous", "tmpfs", "ignore"),
            "What becomes of the volumes that an image declares. `ignore`: plain directories.",
            '"anonymous"',
        ),
    },
    "security": {
        "capabilities": Key(
            "capabilities", _capabilities, "All that root has inside.", '["CHOWN", "SETUID"]'
        ),
        "seccomp": Key(
            "seccomp", _text, "Name of a filter, path of a file, or unconfined.", '"default"'
        ),
        "no_new_privileges": Key(
            "no_new_privileges", _boolean, "Set-uid programs gain nothing.", "true"
        ),
        "landlock": Key("landlock", _boolean, "Use Landlock where the kernel has it.", "true"),
        "masked_paths": Key(
            "masked_paths", _boolean, "Hide what /proc and /sys tell of the host.", "true"
        ),
        "explain": Key("explain", _boolean, "Record which system calls are denied.", "false"),
    },
    "network": {
        "mode": Key(
            "network",
            _parsed(options.parse_network, number=False),
            "`private`, `none` or `host`.",
            '"private"',
        ),
    },
    "limits": {
        "memory": Key("memory", _SIZE, "Bytes of memory.", '"512m"'),
        "memory_swap": Key(
            "memory_swap",
            _parsed(sizes.parse_memory_swap),
            "Memory and swap together; -1: any swap.",
            '"512m"',
        ),
        "cpus": Key("cpus", _parsed(sizes.parse_cpus), "Processors' worth of time.", "1.5"),
        "cpuset_cpus": Key(
            "cpuset_cpus",
            _parsed(sizes.parse_cpuset, number=False),
            "Processors that may be used.",
            '"0-1"',
        ),
        "pids": Key("pids", _parsed(options.parse_pids), "Processes and threads.", "128"),
        "timeout": Key("timeout", _DURATION, "Wall time; 0: any.", '"60s"'),
        "output": Key("output", _SIZE, "Bytes of stdout and stderr together; 0: any.", '"16m"'),
        "ulimits": Key(
            "ulimits", _list_of(options.parse_ulimit), "As for `--ulimit`.", '["nofile=1024"]'
        ),
        "cgroups": Key(
            "cgroups",
            _one_of("enabled", "best-effort", "disabled"),
            "`best-effort`: a limit that can't be enforced here is a warning, not an error.",
            '"enabled"',
        ),
    },
    "user": {
        "userns": Key(
            "userns", _parsed(options.parse_userns, number=False), "As for `--userns`.", '"root"'
        ),
        "user": Key("user", _text, "User[:group] of the command.", '"1000:1000"'),
    },
    "process": {
        "init": Key("init", _boolean, "A small init as pid 1 reaps what is orphaned.", "false"),
        "env": Key("env", _variables, "Environment variables.", '{ LANG = "C.UTF-8" }'),
        "stop_timeout": Key(
            "stop_timeout", _DURATION, "Time between the stop signal and SIGKILL.", '"10s"'
        ),
        "log_max_size": Key("log_max_size", _SIZE, "Size of a log file.", '"10m"'),
        "log_max_files": Key("log_max_files", _COUNT, "Log files that are kept.", "2"),
    },
}


def fields_from(document: Mapping[str, Any], file: str, home: str) -> dict[str, Any]:
    """Return the fields of Profile that *document* sets, and "extends". Raises InvalidSpec."""
    fields: dict[str, Any] = {}
    for name, value in document.items():
        if name in TOP:
            fields[name] = _read(TOP[name], name, value, file)
            continue
        section = SECTIONS.get(name)
        if section is None:
            raise _unknown(
                file, f"[{name}]" if isinstance(value, dict) else name, name, _top_names()
            )
        if not isinstance(value, dict):
            raise InvalidSpec(f"{file}: {name} is a section", hint=f"write [{name}]")
        for key, item in value.items():
            if key not in section:
                raise _unknown(file, f"{key} in [{name}]", key, section)
            fields[section[key].field] = _read(section[key], f"{name}.{key}", item, file)
    return _joined_mounts(fields, file, home)


def _top_names() -> tuple[str, ...]:
    return (*TOP, *SECTIONS)


def _read(key: Key, name: str, value: Any, file: str) -> Any:
    try:
        return key.read(value)
    except WrongKind as err:
        raise InvalidSpec(
            f"{file}: {name} is {err}, not {value!r}", hint=f"as in {key.example}"
        ) from None
    except SbxError as err:
        raise InvalidSpec(
            f"{file}: {name}: {err.message}", detail=err.detail, hint=err.hint
        ) from None


def _unknown(
    file: str, spelled: str, word: str, known: Mapping[str, Any] | tuple[str, ...]
) -> InvalidSpec:
    import difflib

    similar = difflib.get_close_matches(word, list(known), n=1)
    hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(known)}"
    return InvalidSpec(f"{file}: unknown {spelled}", hint=hint)


def _joined_mounts(fields: dict[str, Any], file: str, home: str) -> dict[str, Any]:
    """Make one list of what two keys say; relative paths are refused: relative to what?"""
    if "tmpfs" not in fields and "volumes" not in fields:
        return fields
    mounts = list(fields.pop("tmpfs", ()))
    for text in fields.pop("volumes", ()):
        if text.startswith("."):
            raise InvalidSpec(
                f"{file}: filesystem.volumes: {text!r} is relative", hint="begin with ~"
            )
        spelled = home.rstrip("/") + text[1:] if text.startswith("~/") else text
        mounts.append(parse_volume(spelled, "/"))
    return {**fields, "mounts": tuple(mounts)}

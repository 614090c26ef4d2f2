"""Docker's seccomp profiles: from JSON to the frozen data of `seccomp_profile`.

The format: https://docs.docker.com/engine/security/seccomp/ and the LinuxSeccomp object of the OCI
runtime specification; podman's additions (`defaultErrno`, `errno`) are read as well. Anything that
is not known is refused with its place in the file.
"""

from __future__ import annotations

import errno
import json
import re
from typing import Any, NoReturn

from sandbox.errors import InvalidSpec
from sandbox.linux.seccomp_bpf import (
    RET_ALLOW,
    RET_ERRNO,
    RET_KILL_PROCESS,
    RET_KILL_THREAD,
    RET_LOG,
    RET_TRACE,
    RET_TRAP,
)
from sandbox.linux.seccomp_profile import OPERATORS, Condition, Gate, Profile, Rule

MAX_BYTES = 1 << 20

ACTIONS = {
    "SCMP_ACT_KILL": RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": RET_TRAP,
    "SCMP_ACT_ERRNO": RET_ERRNO,
    "SCMP_ACT_TRACE": RET_TRACE,
    "SCMP_ACT_LOG": RET_LOG,
    "SCMP_ACT_ALLOW": RET_ALLOW,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_FLAGS = (
    # They change logging, threads that are not there yet, or make mitigations weaker: a profile
    # that asks for them is not less strict when it doesn't get them.
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)
_MAX_ERRNO = 4095  # MAX_ERRNO of the kernel
_WORD = (1 << 64) - 1


def parse(text: bytes, source: str = "seccomp profile") -> Profile:
    """Return the profile in *text*. Raises InvalidSpec naming *source* and the place in it."""
    return _Reader(source).profile(_decode(text, source))


def _decode(text: bytes, source: str) -> Any:
    if len(text) > MAX_BYTES:
        raise InvalidSpec(f"{source} is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except json.JSONDecodeError as err:
        raise InvalidSpec(
            f"{source} is not JSON: line {err.lineno}, column {err.colno}: {err.msg}"
        ) from err
    except (ValueError, RecursionError) as err:
        raise InvalidSpec(f"{source} is not a JSON object in UTF-8", detail=str(err)) from err


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


class _Reader:
    """Takes decoded JSON apart; every method knows the place it reads, for the message."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, place: str, problem: str) -> NoReturn:
        where = f"{self.source}: {place}" if place else self.source
        raise InvalidSpec(f"{where}: {problem}")

    def profile(self, value: Any) -> Profile:
        keys = "defaultAction defaultErrnoRet defaultErrno architectures archMap syscalls"
        ignored = "flags comment listenerPath listenerMetadata"
        document = self.object("", value, f"{keys} {ignored}")
        self.flags(document.get("flags"))
        if document.get("listenerPath") or document.get("listenerMetadata"):
            self.fail("listenerPath", "sbx hands notifications to no other program")
        default = self.action(
            "defaultAction",
            document.get("defaultAction"),
            document.get("defaultErrnoRet"),
            document.get("defaultErrno"),
        )
        rules = self.list("syscalls", document.get("syscalls"))
        return Profile(
            default,
            tuple(self.rule(f"syscalls[{i}]", rule) for i, rule in enumerate(rules)),
            self.architectures(document),
        )

    def rule(self, place: str, value: Any) -> Rule:
        keys = "name names action errnoRet errno args includes excludes comment"
        rule = self.object(place, value, keys)
        args = self.list(f"{place}.args", rule.get("args"))
        return Rule(
            self.names(place, rule),
            self.action(
                f"{place}.action", rule.get("action"), rule.get("errnoRet"), rule.get("errno")
            ),
            tuple(self.condition(f"{place}.args[{i}]", arg) for i, arg in enumerate(args)),
            self.gate(f"{place}.includes", rule.get("includes")),
            self.gate(f"{place}.excludes", rule.get("excludes")),
            self.string(f"{place}.comment", rule.get("comment") or ""),
        )

    def names(self, place: str, rule: dict[str, Any]) -> tuple[str, ...]:
        if "name" in rule and rule.get("names"):
            self.fail(place, "has both name and names")
        names = [rule["name"]] if "name" in rule else self.list(f"{place}.names", rule.get("names"))
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,63}", name):
                self.fail(f"{place}.names", f"{name!r} can't be the name of a system call")
        if not names:
            self.fail(place, "names no system call")
        return tuple(names)

    def condition(self, place: str, value: Any) -> Condition:
        argument = self.object(place, value, "index value valueTwo op")
        operator = argument.get("op")
        name = operator.removeprefix("SCMP_CMP_") if isinstance(operator, str) else ""
        if name not in OPERATORS or name == operator:
            self.fail(f"{place}.op", f"{operator!r} is not an operator (SCMP_CMP_EQ …)")
        condition = Condition(
            self.integer(f"{place}.index", argument.get("index"), 5),
            name,
            self.integer(f"{place}.value", argument.get("value"), _WORD),
            self.integer(f"{place}.valueTwo", argument.get("valueTwo") or 0, _WORD),
        )
        if name == "MASKED_EQ" and condition.value_two & ~condition.value:
            self.fail(place, "can never hold: valueTwo has bits that value masks out")
        return condition

    def gate(self, place: str, value: Any) -> Gate:
        gate = self.object(place, {} if value is None else value, "caps arches minKernel")
        caps, arches = (self.list(f"{place}.{key}", gate.get(key)) for key in ("caps", "arches"))
        return Gate(
            tuple(self.string(f"{place}.caps", name) for name in caps),
            tuple(self.string(f"{place}.arches", name) for name in arches),
            self.kernel(f"{place}.minKernel", gate.get("minKernel")),
        )

    def kernel(self, place: str, value: Any) -> tuple[int, int] | None:
        if value is None or value == "":
            return None
        found = (
            re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", value, re.ASCII)
            if (isinstance(value, str))
            else None
        )
        if found is None:
            self.fail(place, f"{value!r} is not a kernel version like 4.8")
        return int(found[1]), int(found[2])

    def action(self, place: str, name: Any, number: Any, errno_name: Any) -> int:
        if name == "SCMP_ACT_NOTIFY":
            self.fail(place, "SCMP_ACT_NOTIFY needs an agent, which sbx does not have")
        if not isinstance(name, str) or name not in ACTIONS:
            self.fail(place, f"{name!r} is not an action ({', '.join(ACTIONS)})")
        value = self.errno(place, number, errno_name)
        if value is None:
            return ACTIONS[name] | (errno.EPERM if name in _WITH_DATA else 0)
        if name not in _WITH_DATA:
            self.fail(place, f"{name} has no errno")
        return ACTIONS[name] | value

    def errno(self, place: str, number: Any, name: Any) -> int | None:
        value = None if number is None else self.integer(f"{place} errno", number, _MAX_ERRNO)
        if name is None or name == "":
            return value
        named = getattr(errno, name, None) if isinstance(name, str) and name[:1] == "E" else None
        if not isinstance(named, int):
            self.fail(place, f"{name!r} is not the name of an errno")
        if value not in (None, named):
            self.fail(place, f"errno {name} is {named}, and errnoRet says {value}")
        return named

    def architectures(self, document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        plain = self.list("architectures", document.get("architectures"))
        mapped = self.list("archMap", document.get("archMap"))
        if plain and mapped:
            self.fail("archMap", "and architectures exclude each other")
        names = tuple(self.architecture("architectures", name) for name in plain)
        found = {name: tuple(other for other in names if other != name) for name in names}
        for i, entry in enumerate(mapped):
            place = f"archMap[{i}]"
            both = self.object(place, entry, "architecture subArchitectures")
            others = self.list(f"{place}.subArchitectures", both.get("subArchitectures"))
            found[self.architecture(place, both.get("architecture"))] = tuple(
                self.architecture(place, other) for other in others
            )
        return found

    def architecture(self, place: str, value: Any) -> str:
        name = self.string(place, value)
        if not re.fullmatch(r"SCMP_ARCH_[A-Z0-9_]+", name):
            self.fail(place, f"{name!r} is not an architecture like SCMP_ARCH_X86_64")
        return name.removeprefix("SCMP_ARCH_").lower()

    def flags(self, value: Any) -> None:
        for flag in self.list("flags", value):
            if flag not in _FLAGS:
                self.fail("flags", f"{flag!r} is not a flag of seccomp(2)")

    def object(self, place: str, value: Any, keys: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(place, f"expected an object, not {_excerpt(value)}")
        for key in value:
            if key not in keys.split():
                self.fail(place, f"{key!r} is not known here ({', '.join(keys.split())})")
        return value

    def list(self, place: str, value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(place, f"expected a list, not {_excerpt(value)}")
        return value

    def string(self, place: str, value: Any) -> str:
        if not isinstance(value, str):
            self.fail(place, f"expected a string, not {_excerpt(value)}")
        return value

    def integer(self, place: str, value: Any, highest: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            self.fail(place, f"expected an integer from 0 to {highest}, not {_excerpt(value)}")
        return value


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

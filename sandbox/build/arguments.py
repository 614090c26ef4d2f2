"""ARG: build arguments, their scopes, and those that are always there.

https://docs.docker.com/reference/dockerfile/#arg
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from sandbox.build.errors import InstructionError
from sandbox.build.instructions import Instruction
from sandbox.build.stage_state import PROXIES, StageState
from sandbox.build.words import expand
from sandbox.image.descriptor import Platform

# Taken from --build-arg or the environment without an ARG; used by the build itself.
_SILENT = PROXIES | {"SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE"}


def platform_arguments(build: Platform, target: Platform) -> dict[str, str]:
    """Return what BuildKit defines of platforms in the global scope."""
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


class BuildArguments(Struct):
    """What --build-arg gave, and what ARGs before the first FROM make of it."""

    given: Mapping[str, str]
    predefined: Mapping[str, str]  # of platforms, and the target's name
    escape: str = "\\"
    declared: dict[str, str | None] = field(default_factory=dict)  # before the first FROM
    used: set[str] = field(default_factory=set)

    @property
    def globals(self) -> dict[str, str]:
        """Return the variables of FROM lines."""
        known = {name: value for name, value in self.declared.items() if value is not None}
        return {**self.predefined, **known}

    def declare(self, instruction: Instruction) -> None:
        """Carry out an ARG before the first FROM."""
        for name, default in _parts(instruction, self.globals, self.escape):
            self.used.add(name)
            known = self.predefined.get(name)
            self.declared[name] = self.given.get(name, known if default is None else default)

    def in_stage(self, state: StageState, instruction: Instruction) -> StageState:
        """Return *state* after an ARG of a stage."""
        arguments = dict(state.arguments)
        for name, default in _parts(instruction, state.variables, self.escape):
            self.used.add(name)
            value = default
            if name in self.given:
                value = self.given[name]
            elif default is None:
                value = self.declared.get(name, self.predefined.get(name))
            # Later ones win, and an argument's place is that of its last ARG.
            arguments.pop(name, None)
            arguments[name] = value
        return replace(state, arguments=arguments)

    def unused(self) -> list[str]:
        """Return the names that were given for nothing."""
        return sorted(set(self.given) - self.used - _SILENT)

    def proxies(self) -> dict[str, str]:
        return {name: value for name, value in self.given.items() if name in PROXIES}


def _parts(
    instruction: Instruction, variables: Mapping[str, str], escape: str
) -> list[tuple[str, str | None]]:
    """Return names and defaults; a default may use the names before it."""
    known = dict(variables)
    found: list[tuple[str, str | None]] = []
    if not instruction.values:
        raise InstructionError(
            "ARG requires at least one argument", instruction.line, instruction.end
        )
    for value in instruction.values:
        raw, equals, default = value.partition("=")
        name = expand(raw, known, escape)
        if not name or any(character.isspace() for character in name):
            raise InstructionError(
                f"invalid name of an ARG: {value[:100]!r}", instruction.line, instruction.end
            )
        text = expand(default, known, escape) if equals else None
        found.append((name, text))
        if text is not None:
            known.setdefault(name, text)
    return found

"""The stages of a Dockerfile: which there are, what they stand on, which are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from sandbox.build.arguments import BuildArguments
from sandbox.build.errors import BuildError, InstructionError
from sandbox.build.flags import Flags
from sandbox.build.instructions import Dockerfile, Instruction
from sandbox.build.mount_flags import sources_of_mounts
from sandbox.build.words import expand

SCRATCH = "scratch"
_NAME = re.compile("[a-z][a-z0-9-_.]*")


class Stage(Struct, frozen=True):
    """One stage."""

    number: int
    name: str  # in lower case; "" without AS
    base: str  # an image, `scratch`, or an earlier stage
    base_stage: int | None
    platform: str  # as FROM has it, expanded; "" for the target's
    origin: Instruction  # the FROM
    instructions: tuple[Instruction, ...]

    @property
    def shown(self) -> str:
        return self.name or f"stage-{self.number}"


def read_stages(dockerfile: Dockerfile, arguments: BuildArguments) -> tuple[Stage, ...]:
    """Return the stages in their order, and carry out the ARGs before them.

    Raises InstructionError.
    """
    stages: list[Stage] = []
    for instruction in dockerfile.instructions:
        if instruction.word == "FROM":
            stages.append(_begin(instruction, stages, arguments))
        elif stages:
            last = stages[-1]
            stages[-1] = _with(last, instruction)
        elif instruction.word == "ARG":
            arguments.declare(instruction)
        else:
            raise InstructionError(
                f"no build stage in current context: {instruction.word} before FROM",
                instruction.line,
                instruction.end,
                hint="begin with FROM IMAGE",
            )
    if not stages:
        raise BuildError(f"{dockerfile.name} has no FROM", hint="begin with FROM IMAGE")
    return tuple(stages)


def _with(stage: Stage, instruction: Instruction) -> Stage:
    return Stage(
        stage.number,
        stage.name,
        stage.base,
        stage.base_stage,
        stage.platform,
        stage.origin,
        (*stage.instructions, instruction),
    )


def _begin(instruction: Instruction, stages: Sequence[Stage], arguments: BuildArguments) -> Stage:
    def wrong(message: str, hint: str | None = None) -> InstructionError:
        return InstructionError(message, instruction.line, instruction.end, hint=hint)

    values = instruction.values
    if len(values) not in (1, 3) or (len(values) == 3 and values[1].upper() != "AS"):
        raise wrong("FROM requires either one or three arguments", "FROM IMAGE [AS NAME]")
    name = values[2].lower() if len(values) == 3 else ""
    if name and not _NAME.fullmatch(name):
        raise wrong(
            f"invalid name for build stage: {values[2]!r}",
            "names start with a letter and may contain letters, digits, '-', '_' and '.'",
        )
    if name and any(stage.name == name for stage in stages):
        raise wrong(f"duplicate name of a build stage: {name}")
    flags = Flags(instruction)
    variables = arguments.globals
    base = expand(values[0], variables, arguments.escape)
    if not base:
        raise wrong(f"base name ({values[0]}) should not be blank", "does its ARG have a default?")
    platform = expand(flags.text("platform") or "", variables, arguments.escape)
    return Stage(len(stages), name, base, find_stage(base, stages), platform, instruction, ())


def find_stage(name: str, stages: Sequence[Stage], *, by_number: bool = False) -> int | None:
    """Return the number of the stage called *name*, None when there is none."""
    for stage in stages:
        if stage.name and stage.name == name.lower():
            return stage.number
    if by_number and name.isdecimal() and len(name) < 6 and int(name) < len(stages):
        return int(name)
    return None


def find_target(name: str | None, stages: Sequence[Stage]) -> Stage:
    """Return the stage of --target; the last one by default. Raises BuildError."""
    if not name:
        return stages[-1]
    found = find_stage(name, stages, by_number=True)
    if found is None:
        known = ", ".join(stage.shown for stage in stages)
        raise BuildError(f"target stage {name!r} could not be found", hint=f"there are: {known}")
    return stages[found]


def sources_of(instruction: Instruction) -> Iterator[str]:
    """Yield the names after `from` in a COPY or RUN, as they are written."""
    if instruction.word == "COPY":
        source = Flags(instruction).text("from")
        if source is not None:
            yield source
    elif instruction.word == "RUN":
        yield from sources_of_mounts(instruction)


def needed_stages(target: Stage, stages: Sequence[Stage]) -> set[int]:
    """Return the numbers of *target* and all that it depends on."""
    needed: set[int] = set()
    pending = [target.number]
    while pending:
        stage = stages[pending.pop()]
        if stage.number in needed:
            continue
        needed.add(stage.number)
        if stage.base_stage is not None:
            pending.append(stage.base_stage)
        for instruction in stage.instructions:
            for name in sources_of(instruction):
                found = find_stage(name, stages[: stage.number], by_number=True)
                if found is not None:
                    pending.append(found)
    return needed

"""Instructions that only change the configuration, each a function from state to state.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from sandbox.build.errors import InstructionError
from sandbox.build.flags import Flags
from sandbox.build.instructions import Instruction
from sandbox.build.parse import parse_trigger
from sandbox.build.stage_state import StageState
from sandbox.build.words import expand, expand_words
from sandbox.engine.signals import parse_signal
from sandbox.errors import SbxError
from sandbox.image.config import with_env

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(?:[^/]*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
_NANOSECONDS |= {"m": 60 * 10**9, "h": 3600 * 10**9}
_LEAST_INTERVAL = 10**6  # nanoseconds: what docker asks of a health check


class Words(Struct, frozen=True):
    """Expands an instruction's words with the variables before it."""

    instruction: Instruction
    variables: Mapping[str, str]
    escape: str

    def one(self, text: str) -> str:
        return expand(text, self.variables, self.escape)

    def values(self) -> list[str]:
        return [self.one(value) for value in self.instruction.values]

    def rest(self) -> str:
        """Return the one value of an instruction that takes one. Raises InstructionError."""
        values = self.instruction.values
        if len(values) != 1:
            raise self.wrong(f"{self.instruction.word} requires exactly one argument")
        return self.one(values[0])

    def wrong(self, message: str, hint: str | None = None) -> InstructionError:
        return InstructionError(message, self.instruction.line, self.instruction.end, hint=hint)


def configure(state: StageState, words: Words) -> StageState:
    """Return *state* after the instruction. Raises InstructionError, BuildError."""
    return _CONFIGURING[words.instruction.word](state, words)


def is_configuring(instruction: Instruction) -> bool:
    return instruction.word in _CONFIGURING


def shell_of(state: StageState) -> tuple[str, ...]:
    return state.config.shell or _SHELL


def _pairs(words: Words) -> list[tuple[str, str]]:
    values = words.values()
    if not values or len(values) % 2:
        raise words.wrong(f"{words.instruction.word} requires at least one argument")
    pairs = list(zip(values[::2], values[1::2], strict=True))
    for name, _ in pairs:
        if not name:
            raise words.wrong(f"{words.instruction.word} names can not be blank")
    return pairs


def _env(state: StageState, words: Words) -> StageState:
    config = state.config
    for name, value in _pairs(words):
        if "=" in name:
            raise words.wrong(f"invalid variable name: {name!r}")
        config = with_env(config, name, value)
    return structs.replace(state, config=config)


def _label(state: StageState, words: Words) -> StageState:
    labels = dict(state.config.labels) | dict(_pairs(words))
    return state.with_config(labels=tuple(labels.items()))


def _expose(state: StageState, words: Words) -> StageState:
    ports = dict.fromkeys(state.config.exposed_ports)
    given = [
        port
        for value in words.instruction.values
        for port in expand_words(value, words.variables, words.escape)
    ]
    if not given:
        raise words.wrong("EXPOSE requires at least one argument")
    for text in given:
        match = _PORT.fullmatch(text)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or not 0 < first <= last < 65536:
            raise words.wrong(f"invalid port: {text!r}", hint="write EXPOSE 80 or EXPOSE 53/udp")
        ports |= {f"{n}/{(match[3] or 'tcp').lower()}": None for n in range(first, last + 1)}
    return state.with_config(exposed_ports=tuple(ports))


def _volume(state: StageState, words: Words) -> StageState:
    values = words.values()
    if not values or not all(values):
        raise words.wrong("VOLUME specified can not be an empty string")
    volumes = dict.fromkeys((*state.config.volumes, *values))
    return state.with_config(volumes=tuple(volumes))


def _user(state: StageState, words: Words) -> StageState:
    user = words.rest()
    if not user:
        raise words.wrong("USER is empty", hint="a variable in it may be empty")
    return state.with_config(user=user)


def _stop_signal(state: StageState, words: Words) -> StageState:
    text = words.rest()
    try:
        parse_signal(text)
    except SbxError as err:
        raise words.wrong(err.message, hint=err.hint) from err
    return state.with_config(stop_signal=text)


def _command(state: StageState, words: Words) -> tuple[str, ...]:
    instruction = words.instruction
    if instruction.json:
        return instruction.values
    return (*shell_of(state), *instruction.values)


def _cmd(state: StageState, words: Words) -> StageState:
    changed = state.with_config(cmd=_command(state, words))
    return structs.replace(changed, cmd_is_own=True)


def _entrypoint(state: StageState, words: Words) -> StageState:
    cmd = state.config.cmd if state.cmd_is_own else None
    command = _command(state, words)
    return state.with_config(entrypoint=command or None, cmd=cmd)


def _shell(state: StageState, words: Words) -> StageState:
    if not words.instruction.json or not words.instruction.values:
        raise words.wrong(
            "SHELL requires the arguments to be in JSON form", hint='SHELL ["/bin/bash", "-c"]'
        )
    return state.with_config(shell=words.instruction.values)


def _maintainer(state: StageState, words: Words) -> StageState:
    return structs.replace(state, author=" ".join(words.instruction.values))


def _onbuild(state: StageState, words: Words) -> StageState:
    instruction = words.instruction
    trigger = instruction.original.strip()[len("ONBUILD") :].strip()
    if instruction.heredocs:
        raise words.wrong("here-documents can't be part of an ONBUILD")
    parse_trigger(trigger, instruction.line, instruction.end)
    return state.with_config(onbuild=(*state.config.onbuild, trigger))


def _healthcheck(state: StageState, words: Words) -> StageState:
    instruction = words.instruction
    flags = Flags(instruction)
    kind, *command = instruction.values or ("",)
    if kind.upper() == "NONE":
        if command or instruction.flags:
            raise words.wrong("HEALTHCHECK NONE takes no arguments")
        return state.with_config(healthcheck={"Test": ["NONE"]})
    if kind.upper() != "CMD":
        raise words.wrong(
            f"unknown type {kind!r} in HEALTHCHECK", hint="HEALTHCHECK CMD command, or NONE"
        )
    if not command or not command[0]:
        raise words.wrong("missing command after HEALTHCHECK CMD")
    test = ["CMD", *command] if instruction.json else ["CMD-SHELL", *command]
    check: dict[str, object] = {"Test": test}
    for name, key in _DURATIONS.items():
        text = flags.text(name)
        if text is not None and (value := _nanoseconds(text, name, words)):
            check[key] = value
    retries = flags.text("retries")
    if retries is not None:
        if not retries.isdecimal() or len(retries) > 6:
            raise words.wrong(f"--retries must be a number of at least 0, not {retries!r}")
        if int(retries):
            check["Retries"] = int(retries)
    return state.with_config(healthcheck=check)


_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def _nanoseconds(text: str, name: str, words: Words) -> int:
    """Return a Go duration ("1m30s"); 0 is the default."""
    if text == "0":
        return 0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 40:
        raise words.wrong(f"invalid duration of --{name}: {text!r}", hint="write 30s or 1m30s")
    total = round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))
    if 0 < total < _LEAST_INTERVAL:
        raise words.wrong(f"--{name} can not be less than 1ms")
    return total


_CONFIGURING: Mapping[str, Callable[[StageState, Words], StageState]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}


def new_workdir(state: StageState, words: Words) -> str:
    """Return the absolute path that a WORKDIR means."""
    path = words.rest()
    if not path:
        raise words.wrong("WORKDIR is empty", hint="a variable in it may be empty")
    joined = posixpath.join(state.config.workdir or "/", path)
    return "/" + posixpath.normpath(joined).lstrip("/")

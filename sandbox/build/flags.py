"""An instruction's flags: `--name`, `--name=value`, checked against those that it has."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.build.errors import InstructionError
from sandbox.build.instructions import Instruction

# Of each instruction: the flag's name → whether it may be given more than once.
_COPY = {
    "from": False,
    "chown": False,
    "chmod": False,
    "link": False,
    "parents": False,
    "exclude": True,
}
_FLAGS: Mapping[str, Mapping[str, bool]] = {
    "FROM": {"platform": False},
    "RUN": {"mount": True, "network": False, "security": False, "device": True},
    "COPY": _COPY,
    "ADD": {
        "chown": False,
        "chmod": False,
        "link": False,
        "exclude": True,
        "checksum": False,
        "keep-git-dir": False,
        "unpack": False,
    },
    "HEALTHCHECK": {
        "interval": False,
        "timeout": False,
        "start-period": False,
        "start-interval": False,
        "retries": False,
    },
}
_BOOLEAN = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_TRUE = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class Flags:
    """The flags of one instruction."""

    def __init__(self, instruction: Instruction) -> None:
        self._instruction = instruction
        self._given: dict[str, list[str]] = {}
        known = _FLAGS.get(instruction.word, {})
        for flag in instruction.flags:
            name, equals, value = flag.removeprefix("--").partition("=")
            if name not in known:
                raise self.wrong(f"unknown flag: --{name}", known)
            if name in self._given and not known[name]:
                raise self.wrong(f"duplicate flag specified: --{name}")
            if not equals and name not in _BOOLEAN:
                raise self.wrong(f"missing a value on flag: --{name}")
            self._given.setdefault(name, []).append(value if equals else "true")

    def wrong(self, message: str, known: Mapping[str, bool] | None = None) -> InstructionError:
        hint = None
        if known is not None:
            names = ", ".join(f"--{name}" for name in known)
            hint = f"{self._instruction.word} has {names or 'no flags'}"
        return InstructionError(message, self._instruction.line, self._instruction.end, hint=hint)

    def text(self, name: str) -> str | None:
        values = self._given.get(name)
        return values[-1] if values else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._given.get(name, ()))

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in _TRUE:
            raise self.wrong(f"expecting boolean value for flag --{name}, not {value!r}")
        return _TRUE[value.lower()]

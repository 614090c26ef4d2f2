"""Command lines as docker reads them, from options that are data.

The conventions are those of spf13/pflag, which docker's users know: `--name=value` and
`--name value`; `-n value`, `-nvalue` and `-n=value`; flags combined (`-it`) and negated
(`--rm=false`); `--` ends the options. Where what follows is a command of its own (`run`, `exec`)
the first argument ends them too.

argparse would do, but importing it and building a parser costs as much as the rest of a warm start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from sandbox.errors import UsageError

if TYPE_CHECKING:
    from sandbox.engine.context import Context

Kind: TypeAlias = Literal["flag", "value", "list"]
# What completes an argument or the value of an option.
Completion: TypeAlias = Literal[
    "", "container", "image", "volume", "profile", "file", "directory", "signal"
]

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class Option(Struct, frozen=True):
    """One option: `-s, --name METAVAR  help`."""

    name: str
    help: str
    short: str = ""
    kind: Kind = "flag"
    metavar: str = "string"
    choices: tuple[str, ...] = ()
    completion: Completion = ""
    hidden: bool = False  # taken for docker's sake, not advertised

    @property
    def spelled(self) -> str:
        """Return the option as error messages name it."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Example(Struct, frozen=True):
    """A command line worth showing, and what it does."""

    line: str
    meaning: str


class Command(Struct, frozen=True):
    """A command: its options, how many arguments it takes, and what it does."""

    name: str  # "rm", "profile ls"
    arguments: str  # as the usage line has it: "CONTAINER [CONTAINER...]"
    summary: str
    run: Callable[[Arguments, Context], int]
    options: tuple[Option, ...] = ()
    at_least: int = 0
    at_most: int | None = None  # None: any number
    interspersed: bool = True  # False: the first argument ends the options
    description: str = ""
    examples: tuple[Example, ...] = ()
    completion: Completion = ""

    @property
    def usage(self) -> str:
        parts = [f"sbx {self.name}", "[OPTIONS]" if self.options else "", self.arguments]
        return " ".join(part for part in parts if part)


class Arguments(Struct, frozen=True):
    """A command line after parsing: what was given, by the options' long names."""

    given: dict[str, tuple[str, ...]]
    positionals: tuple[str, ...]

    def flag(self, name: str) -> bool:
        return self.flag_or_none(name) is True

    def flag_or_none(self, name: str) -> bool | None:
        """Return what was said, None for nothing."""
        values = self.given.get(name)
        return None if values is None else values[-1] == "true"

    def text(self, name: str) -> str | None:
        """Return the value that was given last; None when there was none."""
        values = self.given.get(name)
        return None if values is None else values[-1]

    def texts(self, name: str) -> tuple[str, ...]:
        return self.given.get(name, ())

    def integer(self, name: str) -> int | None:
        """Return the value as a number. Raises UsageError."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise UsageError(f'invalid argument "{value}" for --{name}: not a number') from None


class HelpRequested(Exception):
    """`--help` stood among the options of *command*."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


HELP = Option("help", "Print usage", short="h")


def parse(command: Command, argv: Sequence[str]) -> Arguments:
    """Return what *argv* (without the command's name) says. Raises UsageError, HelpRequested."""
    reader = _Reader(command, list(argv))
    reader.read()
    _check_count(command, len(reader.positionals))
    given = {name: tuple(values) for name, values in reader.given.items()}
    return Arguments(given, tuple(reader.positionals))


class _Reader:
    """Reads one command line from left to right."""

    def __init__(self, command: Command, argv: list[str]) -> None:
        self.command = command
        self.rest = argv
        self.given: dict[str, list[str]] = {}
        self.positionals: list[str] = []
        self.by_name = {option.name: option for option in command.options}
        self.by_short = {option.short: option for option in command.options if option.short}
        self.by_name.setdefault("help", HELP)
        self.by_short.setdefault("h", HELP)

    def read(self) -> None:
        while self.rest:
            word = self.rest.pop(0)
            if word == "--":
                self.positionals += self.rest
                return
            if word.startswith("--"):
                self._long(word[2:])
            elif word.startswith("-") and word != "-":
                self._short(word)
            else:
                self.positionals.append(word)
                if not self.command.interspersed:
                    self.positionals += self.rest
                    return

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option = self.by_name.get(name)
        if option is None:
            raise self._error(f"unknown flag: --{name}", self._similar(name))
        if equals:
            self._store(option, value)
        elif option.kind == "flag":
            self._store(option, "true")
        elif self.rest:
            self._store(option, self.rest.pop(0))
        else:
            raise self._error(f"flag needs an argument: --{name}")

    def _short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self.by_short.get(letter)
            if option is None:
                raise self._error(f"unknown shorthand flag: '{letter}' in {word}")
            if letters.startswith("="):
                self._store(option, letters[1:])
                return
            if option.kind == "flag":
                self._store(option, "true")
                continue
            if not letters and not self.rest:
                raise self._error(f"flag needs an argument: '{letter}' in {word}")
            self._store(option, letters or self.rest.pop(0))
            return

    def _store(self, option: Option, value: str) -> None:
        if option.kind == "flag":
            value = self._boolean(option, value)
        if option.choices and value not in option.choices:
            expected = ", ".join(option.choices)
            spelled = f'invalid argument "{value}" for "{option.spelled}" flag'
            raise self._error(f"{spelled}: expected one of {expected}")
        if option is HELP:
            raise HelpRequested(self.command)
        self.given.setdefault(option.name, []).append(value)

    def _boolean(self, option: Option, value: str) -> str:
        if value in _TRUE:
            return "true"
        if value in _FALSE:
            return "false"
        raise self._error(
            f'invalid argument "{value}" for "{option.spelled}" flag: expected true or false'
        )

    def _similar(self, name: str) -> str | None:
        from sandbox.cli.similar import most_similar

        similar = most_similar(name, self.by_name)
        return f"--{similar}" if similar else None

    def _error(self, message: str, similar: str | None = None) -> UsageError:
        hint = f"see 'sbx {self.command.name} --help'"
        if similar:
            hint = f"did you mean {similar}? {hint[0].upper()}{hint[1:]}"
        return UsageError(message, hint=hint)


def _check_count(command: Command, count: int) -> None:
    if command.at_least <= count and (command.at_most is None or count <= command.at_most):
        return
    raise UsageError(
        f'"sbx {command.name}" {_requirement(command)}',
        detail=f"Usage:  {command.usage}",
        hint=f"see 'sbx {command.name} --help'",
    )


def _requirement(command: Command) -> str:
    def arguments(count: int) -> str:
        return f"{count} argument" if count == 1 else f"{count} arguments"

    if command.at_most == 0:
        return "accepts no arguments."
    if command.at_most is None:
        return f"requires at least {arguments(command.at_least)}."
    if command.at_least == command.at_most:
        return f"requires exactly {arguments(command.at_least)}."
    return f"requires {command.at_least} to {arguments(command.at_most)}."

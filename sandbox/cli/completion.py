"""`sbx completion`: scripts for shells, from the same data as the help."""

from __future__ import annotations

from sandbox.cli.commands import ALIASES, COMMANDS
from sandbox.cli.completion_data import Completed
from sandbox.cli.main import load
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.engine.context import Context
from sandbox.errors import UsageError

_SHELLS = ("bash", "zsh", "fish")


def run(arguments: Arguments, context: Context) -> int:
    shell = arguments.positionals[0]
    if shell not in _SHELLS:
        raise UsageError(f"unknown shell {shell!r}", hint=", ".join(_SHELLS))
    print(script(shell), end="")
    return 0


def script(shell: str) -> str:
    """Return the completion script for *shell*."""
    from importlib import import_module

    render = import_module(f"sandbox.cli.completion_{shell}").render
    return str(render(_all_commands()))


def _all_commands() -> list[Completed]:
    """Return every command under every name."""
    commands = {name: load(name) for name in COMMANDS}
    completed = [Completed(name, command) for name, command in commands.items()]
    completed += [Completed(alias, commands[name]) for alias, name in ALIASES.items()]
    return sorted(completed, key=lambda entry: entry.name)


COMMAND = Command(
    name="completion",
    arguments="bash|zsh|fish",
    summary="Print a completion script",
    run=run,
    at_least=1,
    at_most=1,
    examples=(
        Example("source <(sbx completion bash)", "In this bash"),
        Example(
            "sbx completion bash > ~/.local/share/bash-completion/completions/sbx",
            "In every bash",
        ),
        Example("sbx completion fish > ~/.config/fish/completions/sbx.fish", "In every fish"),
    ),
)

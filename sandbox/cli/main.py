"""From a command line to an exit code: no traceback ever reaches the user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.cli.commands import ALIASES, COMMANDS, GROUPS, find
from sandbox.errors import SbxError, UsageError

if TYPE_CHECKING:
    from sandbox.cli.parser import Command
    from sandbox.engine.context import Context

_INTERNAL_ERROR = 125
_INTERRUPTED = 130  # 128 + SIGINT
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def guarded(carry_out: Callable[[Context], int], context: Context) -> int:
    """Return the exit code of *carry_out*; whatever it raises is explained to the user."""
    try:
        return _flushed(carry_out(context))
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as err:
        return _explain(_only(err), context)


def _only(err: BaseException) -> BaseException:
    """Return what a nursery wrapped, when it is one exception."""
    while isinstance(err, BaseExceptionGroup) and len(err.exceptions) == 1:
        err = err.exceptions[0]
    return err


def _explain(err: BaseException, context: Context) -> int:
    """Say what happened; return the exit code."""
    if isinstance(err, SbxError):
        _say(err.describe())
        return err.exit_code
    if isinstance(err, KeyboardInterrupt):
        return _INTERRUPTED
    if isinstance(err, BrokenPipeError):
        _forget_stdout()
        return _BROKEN_PIPE
    if context.environ.get("SBX_DEBUG"):
        import traceback

        traceback.print_exception(err)
    text = str(err) or type(err).__name__
    _say(f"sbx: internal error: {text} (SBX_DEBUG=1 shows the traceback)")
    return _INTERNAL_ERROR


def dispatch(argv: list[str], context: Context) -> int:
    """Carry out the command line *argv* (without the program's name); return the exit code."""
    while argv and argv[0] in ("-D", "--debug"):
        argv, context.debug = argv[1:], True
    if not argv or argv[0] in ("--help", "-h"):
        return _print_overview()
    if argv[0] in ("--version", "-v"):
        argv = ["version", "--short"]
    if argv[0] == "help":
        argv = [*argv[1:], "--help"]
        return _print_overview() if len(argv) == 1 else dispatch(argv, context)
    found = find(argv)
    if found is None:
        return _print_group(argv)
    return _run(*found, context)


def _run(name: str, argv: list[str], context: Context) -> int:
    from sandbox.cli.parser import HelpRequested, parse

    command = load(name)
    try:
        arguments = parse(command, argv)
    except HelpRequested:
        from sandbox.cli.help import command_help

        print(command_help(command))
        return 0
    if COMMANDS[name].in_userns:
        context.enter_storage()
    return command.run(arguments, context)


def load(name: str) -> Command:
    """Import the module of command *name* and return it."""
    from importlib import import_module

    module, _, attribute = COMMANDS[name].target.partition(":")
    command: Command = getattr(import_module(f"sandbox.cli.{module}"), attribute or "COMMAND")
    return command


def _print_overview() -> int:
    from sandbox.cli.help import overview

    print(overview())
    return 0


def _print_group(argv: list[str]) -> int:
    """Answer `sbx container`, `sbx container --help`, or say that there is no such command."""
    if argv[0] in GROUPS and (len(argv) == 1 or argv[1] in ("--help", "-h")):
        from sandbox.cli.help import group_overview

        print(group_overview(argv[0]))
        return 0
    raise _unknown(argv)


def _unknown(argv: list[str]) -> UsageError:
    from sandbox.cli.similar import most_similar

    if argv[0].startswith("-"):
        return UsageError(f"unknown flag: {argv[0]}", hint="see 'sbx --help'")
    name = " ".join(argv[:2]) if argv[0] in GROUPS else argv[0]
    similar = most_similar(name, [*COMMANDS, *ALIASES])
    return UsageError(
        f"'{name}' is not a sbx command",
        hint=f"did you mean 'sbx {similar}'?" if similar else "see 'sbx --help'",
    )


def _flushed(code: int) -> int:
    sys.stdout.flush()
    return code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens
        print(text, file=sys.stderr, flush=True)


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)

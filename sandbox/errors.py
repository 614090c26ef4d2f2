"""Every error a user can see.

    SbxError                  exit code 125: sbx itself failed
    ├── UsageError            wrong flags or arguments
    ├── NotFound              no such container, image, profile …
    ├── Conflict              the name is in use, the container runs …
    ├── InvalidSpec           a value that can't be carried out (bad port, path, size …)
    ├── Unenforceable         a limit was asked for that this machine can't enforce
    ├── Unavailable           the machine lacks something (newuidmap, /dev/fuse …)
    ├── StoreError            an image or the store is damaged or refused
    ├── CommandNotExecutable  exit code 126
    └── CommandNotFound       exit code 127

A person reads three things: what happened (the message), the detail, and what to do next (the
hint). Exit codes are docker's: https://docs.docker.com/engine/containers/run/#exit-status
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# C0 (but for tab and newline), DEL and C1.
_CONTROL = dict.fromkeys({*range(9), *range(11, 32), *range(127, 160)}, "\N{REPLACEMENT CHARACTER}")


def harmless(text: str) -> str:
    """Return *text* without control characters, which would act on the terminal."""
    return text.translate(_CONTROL)


class SbxError(Exception):
    """sbx failed; *detail* says why, *hint* what to do next (often a command)."""

    exit_code = 125

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def describe(self) -> str:
        """Return the text for standard error, without a traceback and ending without a newline.

        Names in it may be an image's or a program's: control characters are replaced, as they
        would act on the terminal.
        """
        lines = [f"sbx: {self.message}"]
        if self.detail:
            lines += [f"  {line}" for line in self.detail.splitlines()]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return harmless("\n".join(lines))


class UsageError(SbxError):
    """The command line is wrong."""


class NotFound(SbxError):
    """No such container, image, profile or volume."""

    exit_code = 1


class Conflict(SbxError):
    """What is there already, or its state, forbids this."""

    exit_code = 1


class InvalidSpec(SbxError):
    """A value has no meaning here."""


class Unenforceable(SbxError):
    """A limit was asked for and this machine can't enforce it."""


class Unavailable(SbxError):
    """The machine lacks something that this needs."""


class StoreError(SbxError):
    """An image or the store is damaged, or its content was refused."""

    exit_code = 1


class CommandNotExecutable(SbxError):
    """The command exists and can't be executed."""

    exit_code = 126


class CommandNotFound(SbxError):
    """No such command in the container."""

    exit_code = 127


@contextmanager
def never_ran_codes() -> Iterator[None]:
    """Let errors have docker's exit codes: those below 125 belong to the container's command."""
    try:
        yield
    except SbxError as err:
        err.exit_code = max(err.exit_code, SbxError.exit_code)
        raise

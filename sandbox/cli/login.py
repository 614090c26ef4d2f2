"""`sbx login`: keep the credentials for a registry."""

from __future__ import annotations

import getpass
import os
import sys

from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError
from sandbox.image.reference import DEFAULT_REGISTRY
from sandbox.image.registry.credentials import Credentials, save


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.registry.login import check

    registry = registry_of(arguments)
    credentials = _ask(arguments)
    check(registry, credentials, context.environ)
    where = save(registry, credentials, context.environ)
    print("Login Succeeded")
    if os.path.isabs(where):
        print(f"sbx: the password is kept unencrypted in {where}", file=sys.stderr)
    return 0


def registry_of(arguments: Arguments) -> str:
    """Return the registry's host; docker.io when none is named."""
    given = arguments.positionals[0] if arguments.positionals else DEFAULT_REGISTRY
    host = given.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if host in ("index.docker.io", "registry-1.docker.io") else host


def _ask(arguments: Arguments) -> Credentials:
    username, password = arguments.text("username"), arguments.text("password")
    if arguments.flag("password-stdin"):
        if password is not None:
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise UsageError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    if not username or password is None:
        if not os.isatty(0):
            raise UsageError(
                "no terminal to ask for the password on", hint="use --username --password-stdin"
            )
        username = username or input("Username: ")
        password = getpass.getpass("Password: ") if password is None else password
    return Credentials(username, password)


COMMAND = Command(
    name="login",
    arguments="[SERVER]",
    summary="Authenticate to a registry",
    run=run,
    options=(
        Option("username", "Username", short="u", kind="value"),
        Option("password", "Password (others may see it: prefer --password-stdin)", "p", "value"),
        Option("password-stdin", "Take the password from standard input"),
    ),
    at_most=1,
    examples=(Example("sbx login -u me --password-stdin ghcr.io <token", "From a file"),),
)

"""`sbx exec`: another command in a running container."""

from __future__ import annotations

import os

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.cli.run_options import ENV, ENV_FILE, INTERACTIVE, TTY, USER, WORKDIR, environment
from sandbox.engine.context import Context
from sandbox.errors import InvalidSpec, UsageError


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.containers import ExecOptions, exec_

    reference, *argv = arguments.positionals
    cwd = arguments.text("workdir") or ""
    if cwd and not cwd.startswith("/"):
        raise InvalidSpec(f"the working directory {cwd!r} is not absolute")
    options = ExecOptions(
        argv=tuple(argv),
        env=tuple((name, value or "") for name, value in environment(arguments, context)),
        cwd=cwd,
        user=arguments.text("user") or "",
        tty=arguments.flag("tty"),
        interactive=arguments.flag("interactive") and not arguments.flag("detach"),
        detach=arguments.flag("detach"),
        privileged=arguments.flag("privileged"),
    )
    if options.tty and options.interactive and not os.isatty(0):
        raise UsageError("the input device is not a TTY", hint="leave out -t")
    return exec_(open_containers(context).find(reference), options, context)


COMMAND = Command(
    name="exec",
    arguments="CONTAINER COMMAND [ARG...]",
    summary="Run a command in a running container",
    run=run,
    options=(
        TTY,
        INTERACTIVE,
        ENV,
        ENV_FILE,
        WORKDIR,
        USER,
        Option("detach", "Run the command in the background", short="d"),
        Option("privileged", "All capabilities, within the container's user namespace"),
    ),
    at_least=2,
    interspersed=False,
    completion="container",
    examples=(Example("sbx exec -it web bash", "A shell in a running container"),),
)

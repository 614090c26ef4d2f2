"""`sbx run`: a command in a new container."""

from __future__ import annotations

import os
from contextlib import ExitStack

from sandbox.cli.new_container import cidfile, say_privileged, spec_for
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.cli.run_options import OPTIONS, run_options
from sandbox.engine import ahead, spare
from sandbox.engine.context import Context
from sandbox.engine.options import RunOptions
from sandbox.errors import UsageError, never_ran_codes
from sandbox.spec import to_json


def run(arguments: Arguments, context: Context) -> int:
    with never_ran_codes():
        return _run(arguments, context)


def _run(arguments: Arguments, context: Context) -> int:
    options = run_options(arguments, context)
    context.debug = context.debug or arguments.flag("debug")
    _check_terminal(options)
    if options.privileged:
        say_privileged(context)
    with ExitStack() as held:
        spec = spec_for(options, arguments, context, held)
        path = arguments.text("cidfile")
        if path is None and (spare.hand_over(spec, context) or ahead.hand_over(spec, context)):
            return 0  # the client is another's
        from sandbox.engine.run import run as run_container

        with cidfile(path, spec.id):
            return run_container(spec, context, recorded=held.close)


def rehearse(context: Context) -> None:
    """Do all of a run that changes nothing (`command_process.rehearse`). Raises SbxError."""
    from sandbox.cli.parser import parse

    arguments = parse(COMMAND, ["--rm", "host", "true"])
    with ExitStack() as held:
        to_json(spec_for(run_options(arguments, context), arguments, context, held))


def _check_terminal(options: RunOptions) -> None:
    if options.tty and options.interactive and not options.detach and not os.isatty(0):
        raise UsageError("the input device is not a TTY", hint="leave out -t")


COMMAND = Command(
    name="run",
    arguments="IMAGE [COMMAND] [ARG...]",
    summary="Run a command in a new container",
    run=run,
    options=OPTIONS,
    at_least=1,
    interspersed=False,
    description="IMAGE is `host` (this machine's own root file system, below an overlay) or an "
    "image of `sbx images`.",
    completion="image",
    examples=(
        Example("sbx run --rm host python3 -c 'print(1)'", "Your own Python, in a sandbox"),
        Example("sbx run --rm -it host bash", "A shell to look around"),
        Example("sbx run --rm --profile untrusted host ./tool", "A program that you don't trust"),
        Example(
            "sbx run -d --name web -p 8080:80 -v ./site:/srv:ro host python3 -m http.server 80",
            "A server in the background",
        ),
    ),
)

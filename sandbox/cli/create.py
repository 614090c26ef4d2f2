"""`sbx create`: a container that waits to be started."""

from __future__ import annotations

from contextlib import ExitStack

from sandbox.cli.new_container import cidfile, say_privileged, spec_for
from sandbox.cli.parser import Arguments, Command, Example
from sandbox.cli.run_options import OPTIONS, run_options
from sandbox.engine.context import Context

# These say how to run it.
_NOT_HERE = ("detach", "sig-proxy", "debug")


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.start import create

    options = run_options(arguments, context)
    if options.privileged:
        say_privileged(context)
    with ExitStack() as held:
        spec = spec_for(options, arguments, context, held)
        with cidfile(arguments.text("cidfile"), spec.id):
            print(create(spec, context).spec.id)
    return 0


COMMAND = Command(
    name="create",
    arguments="IMAGE [COMMAND] [ARG...]",
    summary="Create a new container, and do not start it",
    run=run,
    options=tuple(option for option in OPTIONS if option.name not in _NOT_HERE),
    at_least=1,
    interspersed=False,
    completion="image",
    examples=(Example("sbx create --name job host make && sbx start -a job", "In two steps"),),
)

"""`sbx start`: run containers that were created or have ended."""

from __future__ import annotations

from sandbox.cli.each import for_each_container, open_containers
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError


def run(arguments: Arguments, context: Context) -> int:
    if arguments.flag("attach") or arguments.flag("interactive"):
        return _attached(arguments, context)
    from sandbox.engine.start import start_detached

    return for_each_container(
        arguments.positionals, context, lambda container: start_detached(container, context)
    )


def _attached(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.run import start_again

    if len(arguments.positionals) > 1:
        raise UsageError("one container at a time can be started with -a or -i")
    container = open_containers(context).find(arguments.positionals[0])
    if container.running:
        from sandbox.engine.attach import attach

        return attach(container, context, stdin=arguments.flag("interactive"))
    feed = arguments.flag("interactive")
    return start_again(container.spec.id, context, attach=True, feed=feed)


COMMAND = Command(
    name="start",
    arguments="CONTAINER [CONTAINER...]",
    summary="Start one or more stopped containers",
    run=run,
    options=(
        Option("attach", "Attach STDOUT/STDERR and forward signals", short="a"),
        Option("interactive", "Attach container's STDIN", short="i"),
    ),
    at_least=1,
    completion="container",
    description="What a container wrote before is there still.",
    examples=(Example("sbx start -a job", "Again, with its output here and its exit code"),),
)

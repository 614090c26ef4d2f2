"""`sbx commit`: an image of a container and its changes."""

from __future__ import annotations

from sandbox.cli.each import open_containers
from sandbox.cli.image_store import open_store, say_left_out
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import InvalidSpec


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.commit import commit_container

    store = open_store(context)
    container = open_containers(context).find(arguments.positionals[0])
    committed = commit_container(
        container,
        store,
        arguments.positionals[1] if len(arguments.positionals) > 1 else "",
        author=arguments.text("author") or "",
        message=arguments.text("message") or "",
        changes=arguments.texts("change"),
        epoch=_epoch(context),
        pause=arguments.flag_or_none("pause") is not False and not arguments.flag("no-pause"),
    )
    if committed.left_out.left_out:
        say_left_out(committed.left_out)
    print(committed.image.id)
    return 0


def _epoch(context: Context) -> int | None:
    """Return SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch)."""
    text = context.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdigit() or len(text) > 11:
        raise InvalidSpec(
            f"SOURCE_DATE_EPOCH is {text!r}", hint="it is a number of seconds since 1970"
        )
    return int(text)


COMMAND = Command(
    name="commit",
    arguments="CONTAINER [REPOSITORY[:TAG]]",
    summary="Make an image of a container's changes",
    run=run,
    options=(
        Option("author", "Who made it", "a", "value"),
        Option("change", "Apply a Dockerfile instruction to the image", "c", "list"),
        Option("message", "Set the comment of the image's history", "m", "value"),
        Option("pause", "Pause the container meanwhile (the default)", "p"),
        Option("no-pause", "Let the container go on meanwhile"),
    ),
    at_least=1,
    at_most=2,
    description="What is in volumes and other mounts is not part of it.",
    completion="container",
    examples=(
        Example("sbx commit work team/app:1", "The image that you made by hand"),
        Example("sbx commit -c 'CMD [\"python3\"]' work", "With another command"),
    ),
)

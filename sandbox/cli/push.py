"""`sbx push`: an image to a registry."""

from __future__ import annotations

from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import NotFound
from sandbox.image.reference import Reference, parse_reference
from sandbox.image.store import Store


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.registry.progress import open_progress
    from sandbox.engine.registry.push import push

    store = open_store(context)
    reference = parse_reference(arguments.positionals[0])
    quiet = arguments.flag("quiet")
    for wanted in _tags(store, reference) if arguments.flag("all-tags") else [reference]:
        if not quiet:
            print(f"The push refers to repository [{wanted.name}]", flush=True)
        with open_progress(quiet=quiet) as progress:
            done = push(store, wanted, context.environ, progress)
        if quiet:
            print(wanted)
        else:
            print(f"{wanted.tag or 'latest'}: digest: {done.digest} size: {done.size}")
    return 0


def _tags(store: Store, reference: Reference) -> list[Reference]:
    names = {parse_reference(name) for image in store.list() for name in image.names}
    found = sorted((n for n in names if n.name == reference.name), key=str)
    if not found:
        raise NotFound(f"no such image: {reference.familiar_name}", hint="sbx images")
    return found


COMMAND = Command(
    name="push",
    arguments="NAME[:TAG]",
    summary="Upload an image to a registry",
    run=run,
    options=(
        Option("all-tags", "Push all tags of the image", short="a"),
        Option("quiet", "Only print the image's name", short="q"),
    ),
    at_least=1,
    at_most=1,
    completion="image",
    examples=(Example("sbx push localhost:5000/team/app:1", "The name says where it goes"),),
)

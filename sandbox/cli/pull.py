"""`sbx pull`: an image from a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.image.platform import own_platform, parse_platform_option
from sandbox.image.reference import Reference, parse_reference

if TYPE_CHECKING:
    from sandbox.engine.registry.progress import Progress


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.registry.progress import open_progress
    from sandbox.engine.registry.pull import pull, tags

    store = open_store(context)
    given = arguments.positionals[0]
    reference = parse_reference(given)
    option = arguments.text("platform")
    platform = parse_platform_option(option) if option else own_platform()
    quiet = arguments.flag("quiet")
    references = tags(reference, context.environ) if arguments.flag("all-tags") else [reference]
    for wanted in references:
        if not quiet:
            print(f"{wanted.tag or wanted.digest}: Pulling from {_shown_path(wanted)}", flush=True)
        with open_progress(quiet=quiet) as progress:
            done = pull(store, wanted, platform, context.environ, progress)
        _say_done(wanted, done.digest, done.newer, progress)
        if quiet:
            print(wanted)
    return 0


def _shown_path(reference: Reference) -> str:
    return reference.path if reference.registry == "docker.io" else reference.name


def _say_done(reference: Reference, digest: str, newer: bool, progress: Progress) -> None:
    status = "Downloaded newer image" if newer else "Image is up to date"
    if not progress.quiet:
        print(f"Digest: {digest}\nStatus: {status} for {reference.familiar}\n{reference}")


COMMAND = Command(
    name="pull",
    arguments="NAME[:TAG|@DIGEST]",
    summary="Download an image from a registry",
    run=run,
    options=(
        Option("all-tags", "Download all tagged images in the repository", short="a"),
        Option("platform", "The platform to choose: os/arch[/variant]", kind="value"),
        Option("quiet", "Only print the image's name", short="q"),
    ),
    at_least=1,
    at_most=1,
    examples=(
        Example("sbx pull debian:bookworm", "From Docker Hub"),
        Example("sbx pull localhost:5000/team/app:1", "From a registry of your own"),
    ),
)

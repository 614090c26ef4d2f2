"""`sbx image bootstrap`: a Debian image from its mirror, without a registry."""

from __future__ import annotations

from sandbox.cli.image_store import open_store
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.bootstrap import PROGRAM, VARIANTS, Request, bootstrapped
from sandbox.engine.context import Context


def run(arguments: Arguments, context: Context) -> int:
    request = Request(
        arguments.positionals[0],
        arguments.text("mirror"),
        arguments.text("variant") or VARIANTS[0],
        tuple(word for text in arguments.texts("include") for word in text.split(",") if word),
        arguments.flag("quiet"),
    )
    with bootstrapped(request, context.environ) as bootstrap:
        image = open_store(context).import_rootfs(
            bootstrap.chunks(),
            request.reference,
            changes=('CMD ["bash"]',),
            message=f"Made by {PROGRAM}",
        )
    print(image.id)
    return 0


COMMAND = Command(
    name="image bootstrap",
    arguments="DISTRIBUTION[:RELEASE[-slim]]",
    summary="Make a Debian image from its mirror, without a registry",
    run=run,
    options=(
        Option("include", "Packages to install as well (comma-separated)", kind="list"),
        Option("mirror", "Where the packages come from", kind="value", metavar="URL"),
        Option("quiet", "Only print the image's id", short="q"),
        Option("variant", "Which packages make it up", kind="value", choices=VARIANTS),
    ),
    at_least=1,
    at_most=1,
    description=f"{PROGRAM} does it, as you: it has to be installed, and you need subordinate ids "
    "(sbx doctor).",
    examples=(
        Example("sbx image bootstrap debian:bookworm", "What Docker Hub has under this name"),
        Example(
            "sbx image bootstrap --variant apt --include python3 debian:bookworm-slim",
            "A small one with Python, without documentation",
        ),
    ),
)

"""`sbx import`: an image from the tar archive of a root file system."""

from __future__ import annotations

from sandbox.cli.image_store import open_store, say_left_out
from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.image.platform import parse_platform_option


def run(arguments: Arguments, context: Context) -> int:
    source = arguments.positionals[0]
    platform = arguments.text("platform")
    image = open_store(context).import_rootfs(
        0 if source == "-" else source,
        arguments.positionals[1] if len(arguments.positionals) > 1 else "",
        changes=arguments.texts("change"),
        message=arguments.text("message") or "",
        platform=parse_platform_option(platform) if platform else None,
        refused=None if arguments.flag("quiet") else say_left_out,
    )
    print(image.id)
    return 0


COMMAND = Command(
    name="import",
    arguments="FILE|- [REPOSITORY[:TAG]]",
    summary="Make an image from the tar archive of a root file system",
    run=run,
    options=(
        Option("change", "Apply a Dockerfile instruction to the image", "c", "list"),
        Option("message", "Set the comment of the image's history", "m", "value"),
        Option("platform", "What the programs in it run on: os/arch[/variant]", kind="value"),
        Option("quiet", "Don't say what was left out", short="q"),
    ),
    at_least=1,
    at_most=2,
    description="The archive may be packed with gzip, zstd, xz or bzip2. Device nodes in it are "
    "left out: containers have a /dev of their own.",
    completion="file",
    examples=(
        Example("sbx import rootfs.tar.xz debian:bookworm", "From a file"),
        Example("mmdebstrap bookworm - | sbx import - debian", "From another program"),
        Example(
            "sbx import -c 'CMD [\"python3\"]' -c 'ENV LANG=C.UTF-8' r.tar py", "With defaults"
        ),
    ),
)

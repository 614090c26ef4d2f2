"""`sbx build`: an image from a Dockerfile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from sandbox.cli.parser import Arguments, Command, Example, Option
from sandbox.engine.context import Context
from sandbox.errors import UsageError

if TYPE_CHECKING:
    from sandbox.build.options import BuildOptions, Shown

_PROGRESS = ("auto", "plain", "tty", "quiet")


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.build.build import build

    options = _options(arguments, context)
    built = build(options, context)
    if options.iidfile is not None:
        _write_id(options.iidfile, built.image_id)
    if options.progress == "quiet" and built.image_id:
        print(built.image_id)
    return 0


def _options(arguments: Arguments, context: Context) -> BuildOptions:
    from sandbox.build.options import (
        BuildOptions,
        Output,
        parse_output,
        parse_secret,
        parse_ssh,
    )
    from sandbox.engine.environment import parse_label
    from sandbox.engine.options import parse_network
    from sandbox.image.names import name_for
    from sandbox.image.platform import parse_platform_option

    texts, environ = arguments.texts, context.environ
    platform, iidfile = arguments.text("platform"), arguments.text("iidfile")
    progress = "quiet" if arguments.flag("quiet") else arguments.text("progress") or "auto"
    outputs = tuple(parse_output(text) for text in texts("output")) or (Output(),)
    return BuildOptions(
        context=arguments.positionals[0],
        dockerfile=arguments.text("file"),
        tags=tuple(name_for(tag) for tag in texts("tag")),
        arguments=_arguments(texts("build-arg"), environ),
        labels=tuple(parse_label(text) for text in texts("label")),
        target=arguments.text("target"),
        platform=parse_platform_option(platform) if platform else None,
        network=parse_network(arguments.text("network") or "private"),
        use_cache=not arguments.flag("no-cache"),
        cache_from=tuple(_reference(text) for text in texts("cache-from")),
        pull=arguments.flag("pull"),
        secrets=dict(parse_secret(text, environ) for text in texts("secret")),
        sockets=dict(parse_ssh(text, environ) for text in texts("ssh")),
        outputs=outputs,
        progress=cast("Shown", progress),
        iidfile=os.path.abspath(iidfile) if iidfile else None,
    )


def _arguments(given: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """Return build arguments; one without a value is taken from the environment, as in docker."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"invalid --build-arg: {text!r}", hint="NAME=VALUE")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


def _reference(text: str) -> str:
    """Return the image of `--cache-from NAME` or `type=registry,ref=NAME`."""
    if "=" not in text:
        return text
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    if fields.get("type", "registry") != "registry" or "ref" not in fields:
        raise UsageError(f"unsupported --cache-from: {text!r}", hint="--cache-from IMAGE")
    return fields["ref"]


def _write_id(path: str, image_id: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(image_id)
    except OSError as err:
        raise UsageError(f"can't write {path}", detail=err.strerror) from err


COMMAND = Command(
    name="build",
    arguments="CONTEXT",
    summary="Build an image from a Dockerfile",
    run=run,
    options=(
        Option("tag", "Name the image, as NAME[:TAG]", "t", "list", "name"),
        Option(
            "file",
            "The Dockerfile (default CONTEXT/Dockerfile); - is standard input",
            "f",
            "value",
            completion="file",
        ),
        Option("build-arg", "Set a build-time variable", "", "list", "list"),
        Option("target", "Build the stage of this name and no further", "", "value"),
        Option("label", "Set metadata for the image", "", "list", "list"),
        Option("no-cache", "Carry out all steps again"),
        Option("cache-from", "Use the steps of this image, too", "", "list", "image"),
        Option("pull", "Ask the registry for newer base images"),
        Option("platform", "The platform to build for: os/arch[/variant]", "", "value"),
        Option("network", "Network of RUN: private, none or host", "", "value"),
        Option(
            "secret", "A secret for RUN: id=NAME,src=FILE or id=NAME,env=VAR", "", "list", "secret"
        ),
        Option("ssh", "An SSH agent for RUN: default, or ID=SOCKET", "", "list", "agent"),
        Option(
            "output",
            "What to make: type=image|local|tar|oci|docker,dest=PATH",
            "o",
            "list",
            "output",
        ),
        Option("progress", "How progress is shown", "", "value", choices=_PROGRESS),
        Option("quiet", "Print the image's id alone", "q"),
        Option("iidfile", "Write the image's id to this file", "", "value", completion="file"),
        Option("rm", "Remove intermediate containers", hidden=True),
        Option("force-rm", "Always remove intermediate containers", hidden=True),
        Option("load", "Make an image of the result", hidden=True),
    ),
    at_least=1,
    at_most=1,
    description="CONTEXT is a directory, a git repository's URL, an archive's URL, or - for an "
    "archive or a Dockerfile on standard input.",
    completion="directory",
    examples=(
        Example("sbx build -t app .", "From ./Dockerfile, with the files here"),
        Example("sbx build -t app --target test --build-arg V=3 .", "One stage, with an argument"),
        Example("sbx build --secret id=token,src=token.txt .", "With a secret for RUN --mount"),
        Example("sbx build --output out --target dist .", "The files of a stage into a directory"),
        Example("sbx build - < Dockerfile", "Without a context"),
    ),
)

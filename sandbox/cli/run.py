"""`sbx run`: a command in a new container."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress

from sandbox.cli.parser import Arguments, Command, Example
from sandbox.cli.run_options import OPTIONS, run_options
from sandbox.engine import names, profiles
from sandbox.engine.context import Context
from sandbox.engine.options import RunOptions
from sandbox.engine.resolve import Identity, resolve
from sandbox.errors import Conflict, UsageError
from sandbox.spec import ContainerSpec, to_json
from sandbox.state import Containers


def run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.run import never_ran_codes

    with never_ran_codes():
        return _run(arguments, context)


def _run(arguments: Arguments, context: Context) -> int:
    from sandbox.engine.run import run as run_container
    from sandbox.engine.spare import hand_over

    options = run_options(arguments, context)
    context.debug = context.debug or arguments.flag("debug")
    _check_terminal(options)
    if options.privileged:
        _say_privileged(context)
    with ExitStack() as stack, ExitStack() as held:
        # The image's layers stay in place until the container is written down.
        spec = _spec(options, arguments, context, held)
        cidfile = arguments.text("cidfile")
        if cidfile is None and hand_over(spec, context):
            return 0  # the client is another's
        if cidfile is not None:
            _write_cidfile(cidfile, spec.id)
            stack.callback(_remove_unused, cidfile)
        code = run_container(spec, context, recorded=held.close)
        stack.pop_all()
    return code


def rehearse(context: Context) -> None:
    """Do all of a run that changes nothing (`command_process.rehearse`). Raises SbxError."""
    from sandbox.cli.parser import parse

    arguments = parse(COMMAND, ["--rm", "host", "true"])
    with ExitStack() as held:
        to_json(_spec(run_options(arguments, context), arguments, context, held))


def _spec(
    options: RunOptions, arguments: Arguments, context: Context, held: ExitStack
) -> ContainerSpec:
    from sandbox.engine.images import find_image
    from sandbox.linux import idmap

    profile = profiles.load(
        arguments.text("profile") or "default",
        context.paths,
        home=context.environ.get("HOME") or "/",
    )
    image = find_image(
        options.image,
        context,
        held,
        pull=arguments.text("pull") or "missing",
        quiet=arguments.flag("quiet"),
    )
    known = Containers(context.paths).names
    identity = Identity(
        id=names.new_id(),
        name=options.name or names.new_name(lambda name: os.path.lexists(known / name)),
        created=time.time(),
        cwd=os.getcwd() if profile.mount_cwd else "/",
        uid=context.user.uid,
        gid=context.user.gid,
        single_uid=idmap.total(idmap.read_map()) == 1,
    )
    return resolve(options, profile, image, identity)


def _check_terminal(options: RunOptions) -> None:
    if options.tty and options.interactive and not options.detach and not os.isatty(0):
        raise UsageError("the input device is not a TTY", hint="leave out -t")


def _say_privileged(context: Context) -> None:
    from sandbox.engine.notices import say_once

    say_once(
        context,
        "privileged",
        "--privileged gives all capabilities within your own user namespace, and none on the host",
    )


def _write_cidfile(path: str, container_id: str) -> None:
    try:
        with open(path, "x") as file:
            file.write(container_id)
    except FileExistsError:
        raise Conflict(
            f"container ID file found: {path}", hint=f"is that container in use? If not: rm {path}"
        ) from None
    except OSError as err:
        raise UsageError(f"can't write {path}", detail=err.strerror) from err


def _remove_unused(path: str) -> None:
    """Take the file away again: its container never ran."""
    with suppress(OSError):
        os.unlink(path)


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

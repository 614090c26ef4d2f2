"""What `run` and `create` have in common: a new container's spec and its id in a file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from sandbox.cli.parser import Arguments
from sandbox.engine import names, profiles
from sandbox.engine.context import Context
from sandbox.engine.options import RunOptions
from sandbox.engine.resolve import Identity, resolve
from sandbox.errors import Conflict, UsageError
from sandbox.spec import ContainerSpec
from sandbox.state import Containers


def spec_for(
    options: RunOptions, arguments: Arguments, context: Context, held: ExitStack
) -> ContainerSpec:
    """Return the spec that *options* and the rest of the command line ask for; pull the image.

    Its layers stay in place until *held* is closed: write the container down before.
    """
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


def say_privileged(context: Context) -> None:
    from sandbox.engine.notices import say_once

    say_once(
        context,
        "privileged",
        "--privileged gives all capabilities within your own user namespace, and none on the host",
    )


@contextmanager
def cidfile(path: str | None, container_id: str) -> Iterator[None]:
    """Have the id in the file *path* (--cidfile); not if what comes fails."""
    if path is None:
        yield
        return
    _write_cidfile(path, container_id)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


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

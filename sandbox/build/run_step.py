"""RUN: a step in a container, by the same supervisor as `sbx run`.

Three calls in processes of their own: its key (where it mounts trees, by their content), the run,
and the layer of what it left in the overlay's upper directory.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct, structs

from sandbox.build.cache import key_of
from sandbox.build.copying import Copy, digest_of
from sandbox.build.errors import BuildError
from sandbox.build.layers import Layer
from sandbox.build.mount_flags import RunMount
from sandbox.build.place import Place, Stepped, TreeSource
from sandbox.build.run_mounts import Given, prepare
from sandbox.build.stage_state import PATH
from sandbox.build.stubs import remove_stubs
from sandbox.engine import names, profiles
from sandbox.engine.context import Context
from sandbox.engine.options import RunOptions
from sandbox.engine.preparation import Step
from sandbox.engine.resolve import Identity, resolve
from sandbox.engine.run import run
from sandbox.image.config import ImageConfig
from sandbox.image.image import Image
from sandbox.image.layer_diff import LayerDiff, Upper
from sandbox.image.store import Store
from sandbox.link import ClientLink
from sandbox.linux import idmap
from sandbox.linux.trees import remove_tree
from sandbox.spec import ContainerSpec, NetworkMode

_PROFILE = "build"
_HOSTNAME = "build"  # the same for every build, as programs write it into files


class Run(Struct, frozen=True):
    """A RUN with all its words expanded."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: NetworkMode
    lower: tuple[str, ...]  # topmost first
    chain: str
    mounts: tuple[RunMount, ...] = ()
    trees: tuple[TreeSource | None, ...] = ()  # beside the mounts: where bind and cache begin
    script: tuple[str, str] | None = None  # path and text of an executable here-document
    hidden_env: tuple[tuple[str, str], ...] = ()  # proxies: no part of the key
    extra_hosts: tuple[str, ...] = ()


class Ran(Struct, frozen=True):
    """How it ended."""

    exit_code: int
    oom_killed: bool
    upper: str  # a directory that holds `upper` and `work`; "" after a failure


def find_run(place: Place, step: Run) -> Stepped | str:
    """Return what the step came to earlier, else its key."""
    store = place.store()
    mounts = [_mount_key(m, t) for m, t in zip(step.mounts, step.trees, strict=True)]
    key = key_of(
        "run",
        step.chain,
        step.argv,
        sorted(step.env),
        step.cwd,
        step.user,
        step.network,
        mounts,
        step.script,
        place.epoch,
    )
    known = place.cache(store).find(key)
    return key if known is None else Stepped(key, known, True)


def _mount_key(mount: RunMount, tree: TreeSource | None) -> list[object]:
    parts: list[object] = [mount.type, mount.target, mount.id, mount.readonly, mount.variable]
    if mount.type == "bind" and tree is not None:
        with tree.open() as opened:
            parts.append(digest_of(Copy((mount.source or "/",), "/"), opened))
    return parts


def run_step(place: Place, step: Run, given: Given) -> Ran:
    """Run the command; what it prints goes to the standard streams. Raises SbxError."""
    store = place.store()
    out = store.layout.staging / f"build-{secrets.token_hex(8)}"
    out.mkdir(mode=0o700)
    try:
        with ExitStack() as stack:
            prepared = prepare(step, store, place, given, stack)
            lower = step.lower or (_nothing(out),)
            spec = _spec(structs.replace(step, lower=lower), place, prepared.mounts)
            files = prepared.files
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            link = ClientLink(ours)
            context = Context(place.paths, place.environ, place.user, link, in_storage=True)
            code = run(spec, context, step=Step(out, files, prepared.env))
        oom_killed = bool(link.result.get("oom_killed"))
        if code == 0:
            targets = [mount.target for mount in step.mounts if mount.target]
            remove_stubs(str(out / "upper"), lower, targets)
            return Ran(0, oom_killed, str(out))
    except BaseException:
        remove_tree(out)
        raise
    remove_tree(out)
    return Ran(code, oom_killed, "")


def _nothing(out: Path) -> str:
    """Return an empty directory: an overlay needs a lower, and a stage may have no layer yet."""
    path = out / "lower"
    path.mkdir()
    return str(path)


def _spec(step: Run, place: Place, mounts: tuple[object, ...]) -> ContainerSpec:
    profile = profiles.load(_PROFILE, place.paths, home=place.environ.get("HOME") or "/")
    image = Image(
        id="",
        names=(),
        config=ImageConfig(),
        lower=step.lower,
        created=None,
        size=0,
    )
    container_id = names.new_id()
    identity = Identity(
        container_id,
        f"build-{container_id[:12]}",
        place.now,
        uid=place.user.uid,
        gid=place.user.gid,
        single_uid=idmap.total(idmap.read_map()) == 1,
    )
    options = RunOptions(
        image="(build)",
        argv=step.argv,
        hostname=_HOSTNAME,
        cwd=step.cwd,
        user=step.user or None,
        remove=True,
        network=step.network,
        mounts=mounts,  # type: ignore[arg-type]
    )
    spec = resolve(options, profile, image, identity)
    env = {"PATH": PATH, **dict(step.env)}
    return structs.replace(spec, env=tuple(env.items()))


def commit_step(place: Place, ran: Ran, lower: tuple[str, ...], key: str) -> Layer:
    """Return the layer of what a run left, remembered under *key*."""
    store = place.store()
    out = Path(ran.upper)
    try:
        layer = _commit(store, out, lower or (str(out / "lower"),), place.epoch)
    finally:
        os.chdir("/")
        remove_tree(out)
    place.cache(store).put(key, layer)
    return layer


def _commit(store: Store, out: Path, lower: tuple[str, ...], epoch: int | None) -> Layer:
    diff = LayerDiff(Upper(str(out / "upper"), str(out / "work"), lower), epoch)
    added = store.layers.add(iter(diff))
    return Layer(added.diff_id, added.descriptor)


def failure(step: Run, shown: str, ran: Ran) -> BuildError:
    """Return the error for a command that failed."""
    why = "it ran out of memory" if ran.oom_killed else None
    return BuildError(
        f'process "{shown}" did not complete successfully: exit code: {ran.exit_code}', detail=why
    )

"""Which ids a container gets (podman's --userns), in the ids of the storage namespace."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.container.accounts import find_account
from sandbox.engine.context import Context
from sandbox.errors import Unavailable
from sandbox.linux import idmap
from sandbox.linux.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from sandbox.spec import ContainerSpec


def maps_for(
    spec: ContainerSpec, context: Context, directory: Path
) -> tuple[idmap.Map, idmap.Map, tuple[str, ...]]:
    """Return (uid_map, gid_map, warnings). This process has to be in the storage namespace.

    *directory* is the container's: the user's name is looked up in what it wrote, too. Raises
    Unavailable for a mapping that needs subordinate ids where there are none, InvalidSpec for a
    user that the image does not know.
    """
    uids = idmap.read_map("/proc/self/uid_map")
    gids = idmap.read_map("/proc/self/gid_map")
    single = min(idmap.total(uids), idmap.total(gids)) == 1
    warnings: tuple[str, ...] = ()
    if spec.userns == "auto" and single:
        if spec.profile == "default":  # asked for by hand
            raise Unavailable(
                "--userns auto needs subordinate ids, and this user has none", hint="sbx doctor"
            )
        warnings = ("no subordinate ids: the container's root is your own user id outside of it",)
    if single and spec.user:
        uid, gid = _only_user(spec, directory)
        return (idmap.Range(uid, 0, 1),), (idmap.Range(gid, 0, 1),), warnings
    user = context.user
    return (
        idmap.split(_wanted(spec, idmap.total(uids), user.uid, single), uids),
        idmap.split(_wanted(spec, idmap.total(gids), user.gid, single), gids),
        warnings,
    )


def _only_user(spec: ContainerSpec, directory: Path) -> tuple[int, int]:
    """Return the ids of the container's user, which are to be the only ones.

    Without subordinate ids there is one id, and it may have any number: the container's user is
    not root then but itself, and everything in the container is its own.
    """
    # The overlay is not there yet: /etc/passwd is that of the topmost layer that has one.
    layers = (str(directory / "upper"), *spec.lower)
    for layer in (*filter(_has_accounts, layers), *layers[-1:]):
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            account = find_account(root, spec.user)
        finally:
            os.close(root)
        return account.uid, account.gid
    raise AssertionError("an image has a layer at least")


def _has_accounts(layer: str) -> bool:
    """Look for /etc/passwd without following the layer's links out of it."""
    try:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # an upper that is still to be made
    try:
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        os.close(openat2(root, "/etc/passwd", os.O_PATH, resolve=resolve))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


def _wanted(spec: ContainerSpec, available: int, own_id: int, single: bool) -> idmap.Map:
    if spec.userns == "keep-id":
        return idmap.keep_id_map(available, own_id)
    if spec.userns == "auto" and not single:
        return idmap.auto_map(available)
    return idmap.root_map(available)

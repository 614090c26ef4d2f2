"""Which ids a container gets (podman's --userns), in the ids of the storage namespace."""

from __future__ import annotations

from sandbox.engine.context import Context
from sandbox.errors import Unavailable
from sandbox.linux import idmap
from sandbox.spec import ContainerSpec


def maps_for(spec: ContainerSpec, context: Context) -> tuple[idmap.Map, idmap.Map, tuple[str, ...]]:
    """Return (uid_map, gid_map, warnings). This process has to be in the storage namespace.

    Raises Unavailable for a mapping that needs subordinate ids where there are none.
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
    user = context.user
    return (
        idmap.split(_wanted(spec, idmap.total(uids), user.uid, single), uids),
        idmap.split(_wanted(spec, idmap.total(gids), user.gid, single), gids),
        warnings,
    )


def _wanted(spec: ContainerSpec, available: int, own_id: int, single: bool) -> idmap.Map:
    if spec.userns == "keep-id":
        return idmap.keep_id_map(available, own_id)
    if spec.userns == "auto" and not single:
        return idmap.auto_map(available)
    return idmap.root_map(available)

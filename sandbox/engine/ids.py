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
    uids = idmap.mapped_ids("/proc/self/uid_map")
    gids = idmap.mapped_ids("/proc/self/gid_map")
    if spec.userns == "keep-id":
        user = context.user
        return idmap.keep_id_map(uids, user.uid), idmap.keep_id_map(gids, user.gid), ()
    if spec.userns == "auto":
        if uids > 1 and gids > 1:
            return idmap.auto_map(uids), idmap.auto_map(gids), ()
        if spec.profile == "default":  # asked for by hand
            raise Unavailable(
                "--userns auto needs subordinate ids, and this user has none", hint="sbx doctor"
            )
        warning = "no subordinate ids: the container's root is your own user id outside of it"
        return idmap.root_map(1), idmap.root_map(1), (warning,)
    return idmap.root_map(uids), idmap.root_map(gids), ()

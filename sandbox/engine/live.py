"""What a supervisor does to its running container when another command asks for it.

{"pause": true}, {"unpause": true} -> {"ok": true}
{"processes": true}                -> {"processes": [pid, …]}
{"usage": true}                    -> see `usage`
{"update": {"memory": …}}          -> {"ok": true}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from sandbox.engine.usage import usage
from sandbox.errors import SbxError
from sandbox.linux import cgroups_limits, members
from sandbox.linux.cgroups import Cgroup
from sandbox.linux.processes import ProcessRef
from sandbox.spec import Limits
from sandbox.state import Container, Containers, Status


class LiveContainer:
    """A running container, seen from its supervisor."""

    def __init__(
        self,
        containers: Containers,
        container: Container,
        cgroup: Cgroup | None,
        set_status: Callable[..., Status],
    ) -> None:
        assert container.status.init is not None
        self._containers = containers
        self._id = container.spec.id
        self._init = container.status.init.pid
        self._network = container.spec.network
        self._cgroup = cgroup
        self._set_status = set_status
        self._status = container.status
        self._stopped_before: frozenset[ProcessRef] = frozenset()

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self._answer(request)
        except SbxError as err:
            return {"error": err.message, "detail": err.detail, "hint": err.hint}
        except OSError as err:
            return {"error": "the supervisor could not do it", "detail": str(err)}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if "pause" in request:
            self._pause()
        elif "unpause" in request:
            self._unpause()
        elif "update" in request:
            self._update(request["update"])
        elif "processes" in request:
            return {"processes": members.members(self._init)}
        elif "usage" in request:
            return usage(self._init, self._cgroup, own_network=self._network != "host")
        else:
            return None
        return {"ok": True}

    def _pause(self) -> None:
        if self._cgroup is not None:
            held = self._cgroup.freeze(True)
            if not held:
                self._cgroup.freeze(False)
        else:
            stopped = members.stop(self._init)
            held = stopped is not None
            self._stopped_before = stopped or frozenset()
        if not held:
            raise SbxError("some of the container's processes do not stop; it goes on")
        self._status = self._set_status(paused=True)

    def _unpause(self) -> None:
        if self._cgroup is not None:
            self._cgroup.freeze(False)
        else:
            members.resume(self._init, self._stopped_before)
        self._status = self._set_status(paused=False)

    def _update(self, changes: dict[str, Any]) -> None:
        if self._cgroup is None:
            raise SbxError(
                "the limits of a running container can't be changed without a cgroup",
                hint="stop it first; sbx doctor says how to get cgroups",
            )
        with self._containers.lock(shared=False):
            spec = self._containers.load(self._id).spec
            limits = changed(spec.limits, changes)
            wanted = [s for s in _settings(limits) if s.limit in changes]
            enforced, missing = cgroups_limits.apply(self._cgroup, wanted)
            if missing:
                raise SbxError(
                    f"{', '.join(cgroups_limits.FLAGS[name] for name in missing)}: not enforceable "
                    "for this container",
                    detail="\n".join(missing.values()),
                    hint="start it anew with these limits, so that it gets the controllers",
                )
            self._containers.write_spec(
                self._containers.root / self._id, structs.replace(spec, limits=limits)
            )
        now = dict(self._status.enforced) | enforced
        self._status = self._set_status(enforced=tuple(now.items()))


def changed(limits: Limits, changes: dict[str, Any]) -> Limits:
    """Return *limits* with *changes*, which are asked for from now on. Raises InvalidSpec."""
    required = tuple(dict.fromkeys((*limits.required, *changes)))
    limits = structs.replace(limits, **changes, required=required)
    cgroups_limits.validate(limits)
    return limits


def _settings(limits: Limits) -> tuple[cgroups_limits.Setting, ...]:
    found = cgroups_limits.settings(limits)
    if limits.pids is None:
        found += (cgroups_limits.Setting("pids", "pids", "pids.max", "max"),)
    return found

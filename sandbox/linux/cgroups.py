"""A container's resource limits: enforced by a cgroup, by something else, or not at all.

The ladder: a delegated subtree if this process is in one, else a scope from the user's systemd,
else the own cgroup vacated, else none. Without a cgroup the number of processes can still be held
by RLIMIT_NPROC (`process_count`); memory and processor time can't. A limit that was asked for and
is not enforced is an error, unless `--cgroups=best-effort` makes it a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace

from sandbox.errors import Unenforceable
from sandbox.linux import cgroups_limits, process_count, rlimits
from sandbox.linux.cgroups_delegation import Delegation, discover, vacatable, vacate
from sandbox.linux.cgroups_directory import (
    Cgroup,
    Stats,
    name_of,
)
from sandbox.linux.cgroups_directory import reconcile as _reconcile_below
from sandbox.linux.cgroups_limits import FLAGS, validate
from sandbox.spec import CgroupsMode, Limits, Ulimit

__all__ = [
    "Cgroup",
    "Delegation",
    "Enforcement",
    "Prepared",
    "Stats",
    "discover",
    "held_by_rlimits",
    "join",
    "prepare",
    "reconcile",
    "remove_abandoned",
    "validate",
]

_OURS = re.compile(r"sbx-[0-9a-f]{12}")


class Enforcement(Struct, frozen=True):
    """What holds which limit. For `sbx inspect`, --debug and the error."""

    cgroup: str  # absolute path, "" without one
    enforced: tuple[tuple[str, str], ...] = ()  # limit name, what enforces it
    missing: tuple[tuple[str, str], ...] = ()  # limit name, why nothing does

    def describe(self) -> list[str]:
        """Return lines for --debug."""
        lines = [f"cgroup {self.cgroup or 'none'}"]
        lines += [f"limit {name}: {by}" for name, by in self.enforced]
        lines += [f"limit {name}: NOT ENFORCED, {why}" for name, why in self.missing]
        return lines


class Prepared(Struct, frozen=True):
    """A container's limits, ready for its init."""

    cgroup: Cgroup | None
    enforcement: Enforcement
    ulimits: tuple[Ulimit, ...] = ()  # for the init to set on top of the user's own
    cpus: frozenset[int] | None = None  # for the init: sched_setaffinity(2)
    processes: int | None = None  # for the init: `process_count` holds all its ids together
    warnings: tuple[str, ...] = ()


def prepare(
    container_id: str,
    limits: Limits,
    mode: CgroupsMode = "enabled",
    *,
    uids_fixed: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """Make the container's cgroup and set its limits, before anything runs in it.

    *uids_fixed*: processes of the container can't change to another user id (a single id is mapped,
    or CAP_SETUID is not in their bounding set). The calling process may be moved to another cgroup
    (a systemd scope of its own). Raises InvalidSpec, and Unenforceable for a limit in
    *limits.required* that nothing enforces.
    """
    validate(limits)
    wanted = cgroups_limits.settings(limits)
    needed = frozenset(setting.controller for setting in wanted)
    cgroup, reasons = _disabled() if mode == "disabled" else _make(container_id, needed, environ)
    try:
        prepared = _enforce(cgroup, limits, wanted, reasons, uids_fixed=uids_fixed)
        if mode == "best-effort":
            return _with_substitutes(prepared, limits)
        _check_required(prepared.enforcement, limits, reasons)
        return prepared
    except BaseException:
        if cgroup is not None:
            cgroup.remove()
        raise


def _disabled() -> tuple[None, tuple[str, ...]]:
    return None, ("--cgroups=disabled was given",)


def _make(
    container_id: str, needed: frozenset[str], environ: Mapping[str, str]
) -> tuple[Cgroup | None, tuple[str, ...]]:
    """Return the cgroup, on the first rung that gives all controllers *needed*, else on the best
    one; and why better rungs did not hold."""
    direct = discover()
    if direct is not None and needed <= direct.controllers:
        return _create(direct.path, container_id), ()
    reasons = [_shortfall(direct, needed)]
    if not needed:
        return None, tuple(reasons)
    found = [direct] if direct is not None else []
    scope = _scope(container_id, environ, reasons)
    if scope is not None:
        found.append(scope)
    elif (own := vacatable()) is not None and (vacated := vacate(own)) is not None:
        found.append(vacated)
    if not found:
        return None, tuple(reasons)
    best = max(found, key=lambda delegation: len(needed & delegation.controllers))
    return _create(best.path, container_id), tuple(reasons)


def _create(parent: str, container_id: str) -> Cgroup:
    name = name_of(container_id)
    try:
        return Cgroup.create(parent, name)
    except FileExistsError:
        # From an earlier run of this very container, which is dead or it would not be started.
        Cgroup(f"{parent}/{name}").remove()
        return Cgroup.create(parent, name)


def _shortfall(direct: Delegation | None, needed: frozenset[str]) -> str:
    if direct is None:
        return "no cgroup v2 subtree is delegated to this user"
    absent = ", ".join(sorted(needed - direct.controllers))
    return f"the subtree {direct.path} is delegated without: {absent}"


def _scope(container_id: str, environ: Mapping[str, str], reasons: list[str]) -> Delegation | None:
    from sandbox.linux import cgroups_systemd

    try:
        return cgroups_systemd.delegated_scope(name_of(container_id), environ)
    except cgroups_systemd.NoScope as err:
        reasons.append(f"no scope from the user's systemd: {err}")
        return None


def _enforce(
    cgroup: Cgroup | None,
    limits: Limits,
    wanted: tuple[cgroups_limits.Setting, ...],
    reasons: tuple[str, ...],
    *,
    uids_fixed: bool,
) -> Prepared:
    if cgroup is not None:
        enforced, missing = cgroups_limits.apply(cgroup, wanted)
    else:
        enforced = {}
        missing = {setting.limit: reasons[0] for setting in wanted}
    ulimits: tuple[Ulimit, ...] = ()
    processes = None
    if "pids" in missing:
        ulimits = held_by_rlimits(limits)
        if uids_fixed:
            del missing["pids"]
            enforced["pids"] = "rlimit RLIMIT_NPROC"
        elif process_count.POSSIBLE:
            del missing["pids"]
            enforced["pids"] = "rlimit RLIMIT_NPROC of a user namespace around the container's"
            processes = limits.pids
        else:
            missing["pids"] += f"; {process_count.WHY_NOT}"
    enforcement = Enforcement(
        cgroup.path if cgroup else "", tuple(enforced.items()), tuple(missing.items())
    )
    return Prepared(cgroup, enforcement, ulimits, processes=processes)


def held_by_rlimits(limits: Limits, mode: CgroupsMode = "enabled") -> tuple[Ulimit, ...]:
    """Return what a process of a container without a cgroup gets: its init, and `exec`.

    RLIMIT_NPROC is counted per user namespace and uid since Linux 5.14 (ucounts), so it holds a
    whole container as long as that has one uid (where it has more, see `process_count`).
    RLIMIT_DATA holds each process by itself, which ends an accident and stops no attack: for
    best-effort alone. (Not RLIMIT_AS: runtimes reserve far more addresses than they use.)
    """
    found = []
    if limits.pids is not None and limits.pids > 0:
        found.append(Ulimit("nproc", limits.pids, limits.pids))
    if mode == "best-effort" and limits.memory is not None:
        found.append(Ulimit("data", limits.memory, limits.memory))
    return tuple(found)


def _with_substitutes(prepared: Prepared, limits: Limits) -> Prepared:
    """For best-effort: what slows down an accident. And say so."""
    missing = _told(prepared.enforcement)
    ulimits = prepared.ulimits
    notes = {"pids": "only each user id by itself is held, by RLIMIT_NPROC"}
    if "memory" in missing:
        held = held_by_rlimits(limits, "best-effort")
        ulimits = rlimits.merge(ulimits, (limit for limit in held if limit.name == "data"))
        notes["memory"] = "only each process by itself is held, by RLIMIT_DATA"
    cpus = None
    if "cpuset_cpus" in missing and limits.cpuset_cpus is not None:
        cpus = cgroups_limits.parse_cpus(limits.cpuset_cpus)
        notes["cpuset_cpus"] = "processes can choose other processors"
    warnings = tuple(
        f"{FLAGS[name]} is not enforced" + (f": {notes[name]}" if name in notes else "")
        for name in missing
    )
    return replace(prepared, ulimits=ulimits, cpus=cpus, warnings=warnings)


def _check_required(enforcement: Enforcement, limits: Limits, reasons: tuple[str, ...]) -> None:
    missing = {n: why for n, why in _told(enforcement).items() if n in limits.required}
    if not missing:
        return
    flags = ", ".join(FLAGS[name] for name in missing)
    details = [f"{FLAGS[name]}: {why}" for name, why in missing.items()]
    details += [reason for reason in reasons[1:] if reason not in details]
    raise Unenforceable(
        f"{flags}: not enforceable on this machine",
        detail="\n".join(dict.fromkeys(details)),
        hint="sbx doctor says what is missing; --cgroups=best-effort runs without the limit",
    )


def _told(enforcement: Enforcement) -> dict[str, str]:
    """Return what is missing, without the limit on swap where that on memory is missing as well."""
    missing = dict(enforcement.missing)
    if "memory" in missing:
        missing.pop("memory_swap", None)
    return missing


def join(path: str, pid: int, environ: Mapping[str, str] = os.environ) -> None:
    """Move *pid* (as the host sees it) into the cgroup of a running container, for `exec`.

    From a login session the way leads past root's cgroups; the user's systemd does it then.
    Raises Unenforceable: a process outside would escape the container's limits.
    """
    try:
        Cgroup(path).add(pid)
    except OSError as err:
        from sandbox.linux import cgroups_systemd

        try:
            cgroups_systemd.attach(path, [pid], environ)
        except cgroups_systemd.NoScope as refusal:
            raise Unenforceable(
                f"process {pid} can't be moved into the container's cgroup",
                detail=f"{path}: {err.strerror}\n{refusal}",
                hint="run sbx in the session that started the container",
            ) from err


def remove_abandoned(path: str) -> bool:
    """Remove a dead container's cgroup, recorded at *path*, with whatever still lives in it.

    False when it is still there. Other paths than sbx's are left alone.
    """
    if not _OURS.fullmatch(os.path.basename(path)) or not os.path.exists(f"{path}/cgroup.procs"):
        return False
    return Cgroup(path).remove()


def reconcile(live_ids: Collection[str] = ()) -> list[str]:
    """Remove what dead containers left where this process would make cgroups; return the paths."""
    delegation = discover(enable=False)
    return [] if delegation is None else _reconcile_below(delegation.path, live_ids)

"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sandbox.doctor import (
    filters,
    networking,
    overlays,
    places,
    resource_limits,
    subordinate_ids,
    user_namespaces,
)
from sandbox.doctor.check import Check, Host
from sandbox.paths import Paths

CHECKS: tuple[Callable[[Host], Check], ...] = (
    user_namespaces.check,
    subordinate_ids.check_ranges,
    subordinate_ids.check_tools,
    overlays.check_fuse,
    overlays.check_kernel_overlay,
    overlays.check_pyfuse3,
    resource_limits.check,
    filters.check_seccomp,
    filters.check_libseccomp,
    filters.check_landlock,
    networking.check_program,
    networking.check_tun,
    places.check_runtime_directory,
    places.check_lingering,
    places.check_store,
    places.check_python,
)


def run_all(paths: Paths, environ: Mapping[str, str]) -> list[Check]:
    """Run every check. To be called on the host, outside of any namespace of ours.

    A check that breaks is a failure of its own; the others still run.
    """
    host = Host.current(paths, environ)
    return [_guarded(check, host) for check in CHECKS]


def _guarded(check: Callable[[Host], Check], host: Host) -> Check:
    try:
        return check(host)
    except Exception as err:
        where = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        return Check(where, "fail", f"the check itself broke: {type(err).__name__}: {err}")

"""The seccomp filter of a container, from its spec."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.engine.context import Context
from sandbox.linux import capabilities, seccomp
from sandbox.paths import make_private
from sandbox.spec import ContainerSpec

if TYPE_CHECKING:
    from sandbox.linux.seccomp_explain import Explanation
    from sandbox.linux.seccomp_notify import Notification

BUILT_IN = Path(__file__).resolve().parents[2] / "profiles" / "seccomp"


def filter_for(spec: ContainerSpec, context: Context, *, single_uid: bool) -> seccomp.Filter:
    """Return the compiled filter. Raises InvalidSpec or NotFound for the profile."""
    security = spec.security
    if security.seccomp == "unconfined":
        return seccomp.Filter(())
    make_private(context.paths.cache)
    return _compiled(
        _profile(spec, context),
        capabilities=_capabilities(spec),
        cache=make_private(context.paths.filters),
        explain=security.explain,
        single_uid=single_uid,
        nest=security.privileged,
        source=security.seccomp,
    )


# A spare asks twice: when it is made and when it is taken.
_compiled = lru_cache(maxsize=2)(seccomp.compile_filter)


def explainer_for(
    spec: ContainerSpec, context: Context, *, single_uid: bool
) -> Callable[[Notification], Explanation] | None:
    """Return what puts the denials of `filter_for`'s filter into words, if it notifies any."""
    security = spec.security
    if not security.explain or security.seccomp == "unconfined":
        return None
    from sandbox.linux.seccomp_explain import Explainer

    return Explainer.of(
        _profile(spec, context),
        capabilities=_capabilities(spec),
        cache=context.paths.filters,
        single_uid=single_uid,
        nest=security.privileged,
        source=security.seccomp,
    ).explain


def _profile(spec: ContainerSpec, context: Context) -> bytes:
    search = (context.paths.profiles / "seccomp", BUILT_IN)
    return seccomp.load_profile(spec.security.seccomp, search)


def _capabilities(spec: ContainerSpec) -> frozenset[str]:
    security = spec.security
    return capabilities.ALL if security.privileged else frozenset(security.capabilities)

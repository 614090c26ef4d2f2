"""The seccomp filter of a container, from its spec."""

from __future__ import annotations

from pathlib import Path

from sandbox.engine.context import Context
from sandbox.linux import capabilities, seccomp
from sandbox.paths import make_private
from sandbox.spec import ContainerSpec

BUILT_IN = Path(__file__).resolve().parents[2] / "profiles" / "seccomp"


def filter_for(spec: ContainerSpec, context: Context, *, single_uid: bool) -> seccomp.Filter:
    """Return the compiled filter. Raises InvalidSpec or NotFound for the profile."""
    security = spec.security
    if security.seccomp == "unconfined":
        return seccomp.Filter(())
    make_private(context.paths.cache)
    return seccomp.compile_filter(
        seccomp.load_profile(security.seccomp, (context.paths.profiles / "seccomp", BUILT_IN)),
        capabilities=capabilities.ALL if security.privileged else frozenset(security.capabilities),
        cache=make_private(context.paths.filters),
        explain=security.explain,
        single_uid=single_uid,
        nest=security.privileged,
        source=security.seccomp,
    )

"""What enforces which limit of a container: what `sbx inspect` says of it."""

from __future__ import annotations

from sandbox.linux.cgroups import Enforcement
from sandbox.spec import Limits

# What does not take a cgroup. A size that the driver can't hold is refused before.
_BY = {
    "storage_size": "quota of the overlay",
    "storage_inodes": "quota of the overlay",
    "timeout": "supervisor",
    "output": "supervisor",
}


def enforced(limits: Limits, by_cgroup: Enforcement) -> tuple[tuple[str, str], ...]:
    """Return (limit, what enforces it) for everything in *limits* that is enforced."""
    return (
        *by_cgroup.enforced,
        *((name, by) for name, by in _BY.items() if getattr(limits, name) is not None),
        ("shm_size", "size of the tmpfs /dev/shm"),
        *((f"ulimit {limit.name}", "rlimit of each process") for limit in limits.ulimits),
    )

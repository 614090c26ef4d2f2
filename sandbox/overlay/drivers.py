"""The two overlay drivers: ours on FUSE, and the kernel's."""

from __future__ import annotations

from pathlib import Path

from fuse_overlay.config import Config
from sandbox.spec import ContainerSpec


def directories(directory: Path) -> tuple[str, str]:
    """Return the overlay's upper and work directories in a container's *directory*."""
    return f"{directory}/upper", f"{directory}/work"


def make_directories(directory: Path) -> None:
    """Create them."""
    upper, work = map(Path, directories(directory))
    # The upper's own mode and owner are those of the container's "/".
    upper.mkdir(mode=0o755, exist_ok=True)
    upper.chmod(0o755)
    work.mkdir(mode=0o700, exist_ok=True)


def fuse_config(
    spec: ContainerSpec, upper: str, work: str, *, only_ids: tuple[int, int] | None
) -> Config:
    """Return the overlay server's configuration for *spec*.

    *only_ids* are the uid and gid that the container has where it has one of each.
    """
    host = spec.lower == ("/",)
    return Config(
        lower=spec.lower,
        upper=upper,
        work=work,
        hidden=spec.hidden,
        # The host's root and other users' files have ids that no namespace of ours maps.
        squash_overflow=host,
        world_readable_only=host,
        live_lower=host,
        size=spec.limits.storage_size,
        inodes=spec.limits.storage_inodes,
        volatile=spec.remove,
        owner_map="none" if only_ids is None else "xattr",
        # What the image gives to other users is the only one's here: over files of an id that has
        # no mapping even root has no rights (capabilities(7), user_namespaces(7)).
        squash_uid=None if only_ids is None else only_ids[0],
        squash_gid=None if only_ids is None else only_ids[1],
    )

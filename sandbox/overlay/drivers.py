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


def fuse_config(spec: ContainerSpec, upper: str, work: str, *, single_uid: bool) -> Config:
    """Return the overlay server's configuration for *spec*."""
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
        owner_map="xattr" if single_uid else "none",
        # What the image gives to other users is root's here: over files of an id that has no
        # mapping even root has no rights (capabilities(7), user_namespaces(7)).
        squash_uid=0 if single_uid else None,
        squash_gid=0 if single_uid else None,
    )

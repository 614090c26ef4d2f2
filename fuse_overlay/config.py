"""What a caller can ask of an overlay. Importing this costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IdMap = tuple[tuple[int, int, int], ...]
"""Ranges: first id seen in the merged view, first id on disk, how many."""


@dataclass(frozen=True, slots=True)
class Config:
    """An overlay: its layers (paths, or open directory descriptors) and its behaviour.

    The server takes its own descriptors of the layers; those given may be closed once it serves.
    """

    lower: tuple[str | int, ...]
    """Read-only layers, topmost first."""
    upper: str | int | None
    """Where changes go. None: the file system is read-only."""
    work: str | int | None
    """An empty directory beside the upper, on the same file system."""
    hidden: tuple[str, ...] = ()
    """Paths of the lowers that are shown empty (directories) or not at all (anything else)."""
    squash_overflow: bool = False
    """Lower files of ids that have no mapping here (the overflow id) belong to 0."""
    world_readable_only: bool = False
    """Lower files can be used only as far as their mode lets anybody."""
    live_lower: bool = False
    """A lower may change while it is in use: the kernel may not cache it for long."""
    size: int | None = None
    """Bytes that the upper may take, ENOSPC beyond."""
    inodes: int | None = None
    """Inodes that the upper may take, ENOSPC beyond."""
    volatile: bool = False
    """Nothing is ever synced."""
    owner_map: Literal["none", "xattr"] = "none"
    """"xattr": owner, mode and device are kept in user.containers.override_stat."""
    dot_marks: bool = True
    """Read ".wh." files as whiteouts. Without them a lookup is cheaper."""
    redirect_dir: bool = True
    """Rename merged directories by a redirect; without, EXDEV as the kernel's default."""
    acl: bool = True
    """POSIX ACLs."""
    uid_map: IdMap = ()
    gid_map: IdMap = ()
    squash_uid: int | None = None
    """Everything belongs to this user."""
    squash_gid: int | None = None
    static_nlink: bool = False
    """Directories always say one link."""
    writeback: bool | None = None
    """Let the kernel gather writes. None: unless there is a quota, which has to refuse in time."""
    timeout: float = 31536000.0
    """How long the kernel may keep names and attributes, in seconds."""
    live_timeout: float = 1.0
    """The same for files of a live lower."""

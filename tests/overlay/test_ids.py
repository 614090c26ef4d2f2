"""Owners, groups and what hangs on them, with many ids and the server a namespace above."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import cell
from .conftest import Overlay

Look = tuple[int, int, int]


def look(path: Path) -> Look:
    st = os.lstat(path)
    return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid


def make(path: Path, mode: int, uid: int = 0, gid: int = 0, *, is_dir: bool = False) -> None:
    if is_dir:
        path.mkdir()
    else:
        path.write_text("x")
    os.chown(path, uid, gid)
    path.chmod(mode)


def change(path: Path, *calls: tuple[str, Any]) -> Look:
    for name, args in calls:
        getattr(os, name)(path, *args)
    return look(path)


def write(path: Path) -> Look:
    with path.open("r+") as file:
        file.write("y")
    return look(path)


def create(path: Path, mode: int = 0o666, umask: int = 0o022) -> Look:
    os.umask(umask)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    return look(path)


def mkdir(path: Path) -> Look:
    os.mkdir(path)
    return look(path)


def test_owners_are_shown_kept_and_stored(ids_overlay: Overlay) -> None:
    """An id inside is the same id in the server's namespace, in the view and on disk."""
    root = ids_overlay.mountpoint
    ids_overlay.run(make, root / "a", 0o640, 33, 44)

    assert ids_overlay.run(look, root / "a") == (0o640, 33, 44)
    assert ids_overlay.run(look, ids_overlay.upper / "a") == (0o640, 33, 44)
    ids_overlay.remount()
    assert ids_overlay.run(look, root / "a") == (0o640, 33, 44)


def test_new_files_belong_to_their_maker(ids_overlay: Overlay) -> None:
    """Files, directories, links and fifos belong to whoever made them."""
    root = ids_overlay.mountpoint
    ids_overlay.run(os.chmod, root, 0o777)

    def run(call: Callable[..., Any], *args: Any) -> Any:
        return ids_overlay.run(call, *args, uid=1000, gid=100)

    assert run(create, root / "a") == (0o644, 1000, 100)
    assert run(mkdir, root / "b") == (0o755, 1000, 100)
    run(os.symlink, "x", root / "c")
    run(os.mkfifo, root / "d")
    assert ids_overlay.run(look, root / "c")[1:] == (1000, 100)
    assert ids_overlay.run(look, root / "d") == (0o644, 1000, 100)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_setgid_directory_hands_its_group_down(ids_overlay: Overlay, uid: int) -> None:
    """Files get the directory's group, directories the bit too; whiteouts in the way or not."""
    root = ids_overlay.mountpoint
    (ids_overlay.lower / "d").mkdir()
    for name in ("a", "b"):
        (ids_overlay.lower / "d" / name).touch()
    ids_overlay.run(change, root / "d", ("chown", (0, 55)), ("chmod", (0o2777,)))
    ids_overlay.run(os.unlink, root / "d/a")
    ids_overlay.run(os.unlink, root / "d/b")

    for name in ("a", "new"):
        made = ids_overlay.run(create, root / "d" / name, uid=uid, gid=uid)
        assert made == (0o644, uid, 55)
    for name in ("b", "new_dir"):
        made = ids_overlay.run(mkdir, root / "d" / name, uid=uid, gid=uid)
        assert made == (0o2755, uid, 55)


def test_chown_clears_set_id_bits(ids_overlay: Overlay) -> None:
    """A new owner does not inherit set-user-id (chown(2)); the kernel's view agrees at once."""
    root = ids_overlay.mountpoint
    ids_overlay.run(make, root / "a", 0o6755)
    assert ids_overlay.run(look, root / "a")[0] == 0o6755
    assert ids_overlay.run(change, root / "a", ("chown", (5, 5))) == (0o755, 5, 5)


def test_writing_clears_set_id_bits(ids_overlay: Overlay) -> None:
    """A write or truncation clears them, as it does for all without CAP_FSETID on the host."""
    root = ids_overlay.mountpoint
    (ids_overlay.lower / "low").write_text("x")
    ids_overlay.run(make, root / "a", 0o6777, 1000)
    ids_overlay.run(os.chmod, root / "low", 0o4777)
    for name in ("a", "low"):
        assert ids_overlay.run(write, root / name, uid=1000)[0] == 0o777
        assert ids_overlay.run(look, root / name)[0] == 0o777
    ids_overlay.run(os.chmod, root / "a", 0o4777)
    ids_overlay.run(os.truncate, root / "a", 0, uid=1000)
    assert ids_overlay.run(look, root / "a")[0] == 0o777


def test_capabilities_of_files_are_kept_and_cleared(ids_overlay: Overlay) -> None:
    """security.capability survives copy-up of mode and goes with the first write."""
    root = ids_overlay.mountpoint
    value = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    ids_overlay.run(make, root / "a", 0o755)
    ids_overlay.run(os.setxattr, root / "a", "security.capability", value)
    assert ids_overlay.run(os.getxattr, root / "a", "security.capability")[4:8] == value[4:8]

    ids_overlay.run(write, root / "a")

    assert ids_overlay.run(os.listxattr, root / "a") == []


def test_the_sticky_bit_protects_others_files(ids_overlay: Overlay) -> None:
    """In a sticky directory only the owner removes and renames."""
    root = ids_overlay.mountpoint
    (ids_overlay.lower / "t").mkdir()
    ids_overlay.run(os.chmod, root / "t", 0o1777)
    ids_overlay.run(make, root / "t/a", 0o666, 1000)
    with pytest.raises(PermissionError):
        ids_overlay.run(os.unlink, root / "t/a", uid=1001)
    with pytest.raises(PermissionError):
        ids_overlay.run(os.rename, root / "t/a", root / "t/b", uid=1001)
    ids_overlay.run(os.unlink, root / "t/a", uid=1000)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as an xattr: version 2, then tag, permissions and id (posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


USER_OBJ, USER, GROUP_OBJ, MASK, OTHER, NONE = 1, 2, 4, 16, 32, 0xFFFFFFFF


def test_acls_are_enforced_and_inherited(ids_overlay: Overlay) -> None:
    """A named user gets what the ACL grants him; default ACLs go to new files, also over marks."""
    root = ids_overlay.mountpoint
    ids_overlay.run(make, root / "a", 0o600)
    entries = acl(
        (USER_OBJ, 6, NONE),
        (USER, 4, 1000),
        (GROUP_OBJ, 0, NONE),
        (MASK, 4, NONE),
        (OTHER, 0, NONE),
    )
    with pytest.raises(PermissionError):
        ids_overlay.run(Path.read_text, root / "a", uid=1000, gid=1000)
    ids_overlay.run(os.setxattr, root / "a", "system.posix_acl_access", entries)
    assert ids_overlay.run(Path.read_text, root / "a", uid=1000, gid=1000) == "x"
    with pytest.raises(PermissionError):
        ids_overlay.run(Path.read_text, root / "a", uid=1001, gid=1001)

    (ids_overlay.lower / "d").mkdir()
    (ids_overlay.lower / "d" / "b").touch()
    ids_overlay.run(os.setxattr, root / "d", "system.posix_acl_default", entries)
    ids_overlay.run(os.unlink, root / "d/b")
    for name in ("b", "c"):
        ids_overlay.run(create, root / "d" / name, 0o666, 0)
        assert ids_overlay.run(os.getxattr, root / "d" / name, "system.posix_acl_access")
    ids_overlay.remount()
    assert ids_overlay.run(Path.read_text, root / "a", uid=1000, gid=1000) == "x"


def test_modes_are_enforced(ids_overlay: Overlay) -> None:
    """Permissions are checked for every user; without an upper entry as with one."""
    root = ids_overlay.mountpoint
    (ids_overlay.lower / "low").write_text("x")
    (ids_overlay.lower / "low").chmod(0o600)
    ids_overlay.run(make, root / "up", 0o600)
    for name in ("low", "up"):
        with pytest.raises(PermissionError):
            ids_overlay.run(Path.read_text, root / name, uid=1000, gid=1000)
        assert ids_overlay.run(Path.read_text, root / name) == "x"


def test_ids_can_be_mapped(make_overlay: Callable[..., Overlay]) -> None:
    """uidmapping shows files of one range of ids as another's, and keeps new ones in the first."""
    if cell.subids() is None and os.getuid() != 0:
        pytest.skip("the user has no subordinate ids")
    overlay = make_overlay(
        many_ids=True, allow_other=True, uid_map=((1000, 0, 10),), gid_map=((2000, 0, 10),)
    )
    (overlay.lower / "a").touch()
    root = overlay.mountpoint
    assert overlay.run(look, root / "a")[1:] == (1000, 2000)
    overlay.run(os.chown, root / "a", 1003, 2004)
    assert overlay.run(look, root / "a")[1:] == (1003, 2004)
    assert overlay.run(look, overlay.upper / "a")[1:] == (3, 4)


def test_everything_can_belong_to_one_user(make_overlay: Callable[..., Overlay]) -> None:
    """squash_to_uid shows one owner, whoever made the file."""
    if cell.subids() is None and os.getuid() != 0:
        pytest.skip("the user has no subordinate ids")
    overlay = make_overlay(many_ids=True, allow_other=True, squash_uid=7, squash_gid=8)
    (overlay.lower / "a").touch()
    root = overlay.mountpoint
    overlay.run(make, root / "b", 0o600)
    assert overlay.run(look, root / "a")[1:] == (7, 8)
    assert overlay.run(look, root / "b") == (0o600, 7, 8)


def test_owners_can_be_kept_in_an_xattr(make_overlay: Callable[..., Overlay]) -> None:
    """With one real id, owner and mode are kept as containers-storage writes them."""
    if cell.subids() is None and os.getuid() != 0:
        pytest.skip("the user has no subordinate ids")
    overlay = make_overlay(many_ids=True, allow_other=True, owner_map="xattr")
    (overlay.lower / "a").touch()
    os.setxattr(overlay.lower / "a", "user.containers.override_stat", b"33:44:4751:file")
    root = overlay.mountpoint
    assert overlay.run(look, root / "a") == (0o4751, 33, 44)

    overlay.run(make, root / "b", 0o640, 12, 13)

    for _ in range(2):
        assert overlay.run(look, root / "b") == (0o640, 12, 13)
        assert overlay.run(os.listxattr, root / "b") == []
        overlay.remount()
    kept = overlay.run(os.getxattr, overlay.upper / "b", "user.containers.override_stat")
    assert kept == b"12:13:0640:file"
    assert overlay.run(look, overlay.upper / "b")[1:] == (0, 0)

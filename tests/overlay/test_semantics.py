"""What Linux programs rely on, one promise a test; where others fail, too."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_overlay.syscalls import RENAME_WHITEOUT, renameat2

from .conftest import Overlay

MiB = 1 << 20


def rename2(source: Path, target: Path, flags: int) -> None:
    renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def error(call: Callable[..., object], *args: object) -> str:
    """The name of the errno that a call fails with."""
    try:
        call(*args)
    except OSError as err:
        return errno.errorcode[err.errno or 0]
    return "no error"


def test_a_shared_mapping_sees_the_copy(overlay: Overlay) -> None:
    """A MAP_SHARED mapping made before copy-up shows what is written after it."""
    (overlay.lower / "a").write_bytes(b"old " * 1024)
    with (overlay.merged / "a").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        assert mapped[:3] == b"old"

        with (overlay.merged / "a").open("r+b") as writer:
            writer.write(b"new")

        assert mapped[:3] == b"new"
        mapped.close()


def test_writing_through_a_mapping_reaches_the_upper(overlay: Overlay) -> None:
    """What is stored through a writable mapping is in the upper after msync."""
    (overlay.lower / "a").write_bytes(bytes(8192))
    with (overlay.merged / "a").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5000:5005] = b"store"
        mapped.flush()

    assert (overlay.upper / "a").read_bytes()[5000:5005] == b"store"
    assert (overlay.lower / "a").read_bytes() == bytes(8192)


def test_holes_are_kept_by_copy_up(overlay: Overlay) -> None:
    """A sparse file takes no more room in the upper than in the lower."""
    with (overlay.lower / "a").open("wb") as file:
        file.truncate(64 * MiB)
        file.seek(32 * MiB)
        file.write(b"data")

    (overlay.merged / "a").chmod(0o600)

    copied = (overlay.upper / "a").stat()
    assert copied.st_size == 64 * MiB
    assert copied.st_blocks * 512 < MiB
    with (overlay.merged / "a").open("rb") as file:
        file.seek(32 * MiB)
        assert file.read(4) == b"data"


def test_copy_up_keeps_times_xattrs_and_inode_number(overlay: Overlay) -> None:
    """A change of mode changes nothing else that can be seen, in the file or its directory."""
    (overlay.lower / "d").mkdir()
    path = overlay.lower / "d" / "a"
    path.write_text("x")
    os.setxattr(path, "user.name", b"value")
    os.utime(path, ns=(10**18, 2 * 10**18 + 7))
    os.utime(overlay.lower / "d", ns=(3 * 10**17, 4 * 10**17))
    merged = overlay.merged / "d" / "a"
    before, above = merged.stat(), (overlay.merged / "d").stat()

    merged.chmod(0o600)

    for _ in range(2):
        merged = overlay.merged / "d" / "a"
        after = merged.stat()
        assert after.st_mtime_ns == 2 * 10**18 + 7
        assert after.st_ino == before.st_ino
        assert os.getxattr(merged, "user.name") == b"value"
        assert (overlay.merged / "d").stat().st_mtime_ns == above.st_mtime_ns
        assert (overlay.merged / "d").stat().st_ino == above.st_ino
        overlay.remount()


def test_a_symlink_keeps_its_number_over_copy_up_and_remount(overlay: Overlay) -> None:
    """Links can have no xattrs, but their inode number lasts all the same."""
    os.symlink("target", overlay.lower / "a")
    before = os.lstat(overlay.merged / "a").st_ino

    os.utime(overlay.merged / "a", ns=(1, 1), follow_symlinks=False)

    assert (overlay.upper / "a").is_symlink()
    assert os.lstat(overlay.merged / "a").st_ino == before
    overlay.remount()
    assert os.lstat(overlay.merged / "a").st_ino == before


def test_reading_changes_no_access_time(overlay: Overlay) -> None:
    """The overlay is noatime, in the view and in the layers."""
    for root in (overlay.lower, overlay.upper):
        (root / root.name).write_text("x")
        os.utime(root / root.name, ns=(1, 1))
    for name in (overlay.lower.name, overlay.upper.name):
        (overlay.merged / name).read_text()
        assert (overlay.merged / name).stat().st_atime_ns == 1
    assert (overlay.lower / overlay.lower.name).stat().st_atime_ns == 1


def test_the_longest_names_work(overlay: Overlay) -> None:
    """A name of 255 bytes can be made, found, hidden and listed; 256 are ENAMETOOLONG."""
    name = "n" * 255
    (overlay.lower / name).write_text("lower")
    assert (overlay.merged / name).read_text() == "lower"
    (overlay.merged / name).unlink()
    assert os.listdir(overlay.merged) == []
    (overlay.merged / name).mkdir()
    assert os.listdir(overlay.merged) == [name]
    assert error(os.mkdir, overlay.merged / (name + "n")) == "ENAMETOOLONG"


def test_a_very_deep_path_works(overlay: Overlay) -> None:
    """Directories can be nested as deep as a path may be long, and deeper by chdir."""
    fd = os.open(overlay.lower, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    fd = os.open(overlay.merged, os.O_RDONLY)
    for _ in range(1500):
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("a", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert os.listdir(fd) == ["a"]
    os.close(fd)


def test_files_over_4_gib(overlay: Overlay) -> None:
    """Offsets and sizes have 64 bits, in the lower and after copy-up."""
    with (overlay.lower / "a").open("wb") as file:
        file.seek(5 << 30)
        file.write(b"end")
    with (overlay.merged / "a").open("r+b") as file:
        file.seek(5 << 30)
        assert file.read() == b"end"
        file.seek(6 << 30)
        file.write(b"more")
    assert (overlay.merged / "a").stat().st_size == (6 << 30) + 4


def test_a_directory_changed_while_being_read(overlay: Overlay) -> None:
    """Every name that was there throughout is listed once, whatever comes and goes meanwhile."""
    (overlay.lower / "d").mkdir()
    stay = {f"stay{number}" for number in range(5000)}
    for name in stay:
        (overlay.lower / "d" / name).touch()
    for number in range(500):
        (overlay.lower / "d" / f"go{number}").touch()
    seen: list[str] = []
    merged = overlay.merged / "d"
    with os.scandir(merged) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 10 == 0 and number < 5000:
                (merged / f"go{number // 10}").unlink()
                (merged / f"new{number}").touch()
    kept = [name for name in seen if name in stay]
    assert sorted(kept) == sorted(stay)


def test_a_directory_of_100000_entries(overlay: Overlay) -> None:
    """A large directory is listed in full and emptied."""
    names = {f"{number:x}" for number in range(100_000)}
    fd = os.open(overlay.upper, os.O_RDONLY)
    for name in names:
        os.mknod(name, dir_fd=fd)
    os.close(fd)
    assert set(os.listdir(overlay.merged)) == names


def test_seeking_in_a_directory(overlay: Overlay) -> None:
    """rewinddir lists what is there by then."""
    (overlay.lower / "a").touch()
    fd = os.open(overlay.merged, os.O_RDONLY)
    assert os.listdir(fd) == ["a"]
    (overlay.merged / "b").touch()
    assert sorted(os.listdir(fd)) == ["a", "b"]
    os.close(fd)


def test_the_oci_whiteouts_are_read(make_overlay: Callable[..., Overlay]) -> None:
    """A layer in the OCI format hides names by .wh. files, which are not seen themselves."""
    overlay = make_overlay(lowers=2)
    top, bottom = overlay.lowers
    for name in ("a", "b", "d/a"):
        (bottom / name).parent.mkdir(exist_ok=True)
        (bottom / name).write_text("below")
    (top / ".wh.a").touch()
    (top / "d").mkdir()
    (top / "d" / ".wh..wh..opq").touch()
    (top / "d" / "c").touch()

    assert sorted(os.listdir(overlay.merged)) == ["b", "d"]
    assert os.listdir(overlay.merged / "d") == ["c"]
    for name in ("a", ".wh.a", "d/a", "d/.wh..wh..opq"):
        assert not (overlay.merged / name).exists()


def test_a_name_beside_its_own_oci_whiteout_hides_only_what_is_below(
    make_overlay: Callable[..., Overlay],
) -> None:
    """A layer that has a mark and the name itself replaces what lies below."""
    overlay = make_overlay(lowers=2)
    top, bottom = overlay.lowers
    (bottom / "d").mkdir()
    (bottom / "d" / "below").touch()
    (top / "d").mkdir()
    (top / "d" / "above").touch()
    (top / ".wh.d").touch()

    assert os.listdir(overlay.merged / "d") == ["above"]


def test_users_can_have_files_named_like_oci_whiteouts(overlay: Overlay) -> None:
    """A file named .wh.a is a file, hides nothing and stays over a remount."""
    (overlay.lower / "a").write_text("lower")
    (overlay.merged / ".wh.a").touch()
    (overlay.merged / "b").touch()
    (overlay.merged / "b").rename(overlay.merged / ".wh.b")

    for _ in range(2):
        assert sorted(os.listdir(overlay.merged)) == [".wh.a", ".wh.b", "a"]
        assert (overlay.merged / "a").read_text() == "lower"
        overlay.remount()


def test_whiteouts_that_are_xattrs_are_read(make_overlay: Callable[..., Overlay]) -> None:
    """The kernel's other form: an empty file with user.overlay.whiteout in an "x" directory."""
    overlay = make_overlay(lowers=2)
    top, bottom = overlay.lowers
    for root in (bottom, top):
        (root / "d").mkdir()
        (root / "d" / "a").touch()
    (bottom / "d" / "b").touch()
    os.setxattr(top / "d" / "a", "user.overlay.whiteout", b"y")
    os.setxattr(top / "d", "user.overlay.opaque", b"x")

    assert os.listdir(overlay.merged / "d") == ["b"]
    assert not (overlay.merged / "d" / "a").exists()


def test_own_marks_are_not_seen_and_users_marks_are_kept(overlay: Overlay) -> None:
    """A user's user.overlay.* xattrs are his; ours do not show."""
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").touch()
    (overlay.merged / "d").chmod(0o700)
    merged = overlay.merged / "d"
    assert os.listxattr(merged) == []

    os.setxattr(merged, "user.overlay.opaque", b"y")

    for _ in range(2):
        merged = overlay.merged / "d"
        assert os.listxattr(merged) == ["user.overlay.opaque"]
        assert os.getxattr(merged, "user.overlay.opaque") == b"y"
        assert os.listdir(merged) == ["a"]
        overlay.remount()


def test_users_can_have_whiteout_devices(overlay: Overlay) -> None:
    """mknod of device 0:0 makes one, which hides nothing of ours and stays over a remount."""
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d" / "a").write_text("lower")
    (overlay.merged / "d" / "a").unlink()

    overlay.run(whiteout, overlay.mountpoint / "d" / "a")
    overlay.run(whiteout, overlay.mountpoint / "b")

    for _ in range(2):
        for name in ("b", "d/a"):
            st = os.lstat(overlay.merged / name)
            assert stat.S_ISCHR(st.st_mode)
            assert st.st_rdev == 0
        overlay.remount()
    (overlay.merged / "d" / "a").rename(overlay.merged / "c")
    overlay.remount()
    assert (overlay.merged / "c").is_char_device()
    (overlay.merged / "c").unlink()
    assert sorted(os.listdir(overlay.merged)) == ["b", "d"]


def test_rename_can_leave_a_whiteout_device(overlay: Overlay) -> None:
    """RENAME_WHITEOUT, which an overlay inside needs."""
    (overlay.lower / "a").write_text("lower")

    overlay.run(rename2, overlay.mountpoint / "a", overlay.mountpoint / "b", RENAME_WHITEOUT)

    assert (overlay.merged / "b").read_text() == "lower"
    assert (overlay.merged / "a").is_char_device()


def test_locks_hold_between_processes(overlay: Overlay) -> None:
    """flock and fcntl locks exclude each other as on any file system."""
    (overlay.lower / "a").touch()
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+')\n"
        "for lock in (fcntl.flock, fcntl.lockf):\n"
        "    try:\n"
        "        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    except BlockingIOError:\n"
        "        print('held')\n"
    )
    with (overlay.merged / "a").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        answer = subprocess.run(
            [sys.executable, "-c", program, overlay.merged / "a"],
            stdout=subprocess.PIPE,
            check=True,
        )
    assert answer.stdout == b"held\nheld\n"


def test_o_direct_append_and_truncate(overlay: Overlay) -> None:
    """The flags of open do what they say on a lower file."""
    (overlay.lower / "a").write_bytes(b"x" * 8192)
    fd = os.open(overlay.merged / "a", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    assert os.readv(fd, [buffer]) == 4096
    os.close(fd)
    with (overlay.merged / "a").open("ab") as one, (overlay.merged / "a").open("ab") as two:
        for number in range(10):
            (one, two)[number % 2].write(b"%d" % number)
            (one, two)[number % 2].flush()
    assert (overlay.merged / "a").read_bytes() == b"x" * 8192 + b"0123456789"
    (overlay.merged / "a").write_bytes(b"")
    assert (overlay.upper / "a").stat().st_size == 0


def test_what_fuse_cannot_do_has_the_errno_that_programs_expect(overlay: Overlay) -> None:
    """Unknown ioctls: ENOTTY; SEEK_DATA finds no holes where the kernel gathers writes."""
    (overlay.merged / "a").write_bytes(bytes(10))
    with (overlay.merged / "a").open("r+b") as file:
        fd = file.fileno()
        os.ftruncate(fd, 100)
        assert error(fcntl.ioctl, fd, 0x1234) == "ENOTTY"
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 100


def test_a_removed_directory_that_is_in_use(overlay: Overlay) -> None:
    """In a removed working directory nothing can be made, found or listed."""
    (overlay.lower / "d").mkdir()
    for name in ("d", "e"):
        (overlay.merged / name).mkdir(exist_ok=True)
        fd = os.open(overlay.merged / name, os.O_RDONLY)
        (overlay.merged / name).rmdir()
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(fd) == []
        for flags in (os.O_RDONLY, os.O_CREAT | os.O_WRONLY):
            with pytest.raises(FileNotFoundError):
                os.open("a", flags, dir_fd=fd)
        os.close(fd)


def test_statfs_shows_the_upper(overlay: Overlay) -> None:
    """statfs says what the upper's file system says."""
    ours, real = os.statvfs(overlay.merged), os.statvfs(overlay.upper)
    assert (ours.f_blocks, ours.f_frsize, ours.f_namemax) == (
        real.f_blocks,
        real.f_frsize,
        real.f_namemax,
    )


def test_without_an_upper_nothing_can_be_changed(make_overlay: Callable[..., Overlay]) -> None:
    """A read-only overlay says EROFS."""
    overlay = make_overlay(read_only=True)
    (overlay.lower / "a").write_text("x")
    assert (overlay.merged / "a").read_text() == "x"
    assert error((overlay.merged / "a").write_text, "y") == "EROFS"
    assert error((overlay.merged / "b").mkdir) == "EROFS"
    assert error((overlay.merged / "a").unlink) == "EROFS"
    assert error((overlay.merged / "a").chmod, 0o600) == "EROFS"


def test_an_inode_freed_in_the_upper_is_not_mixed_up(overlay: Overlay) -> None:
    """A file that takes the real inode number of one that is gone is another file."""
    kept = []
    for number in range(200):
        path = overlay.merged / f"f{number}"
        path.write_text(str(number))
        file = path.open()
        path.unlink()
        kept.append(file)
    for number in range(200):
        (overlay.merged / f"g{number}").write_text(f"new{number}")
    for number, file in enumerate(kept):
        assert file.read() == str(number)
        file.close()
    for number in range(200):
        assert (overlay.merged / f"g{number}").read_text() == f"new{number}"


def test_an_upper_over_another_lower_shows_no_file_for_another(overlay: Overlay) -> None:
    """The inode numbers that an upper remembers do not make a lower's file its own."""
    for name in ("a", "b"):
        (overlay.lower / name).write_text(name)
    number = (overlay.merged / "b").stat().st_ino
    (overlay.merged / "a").chmod(0o600)
    overlay.mounted().unmount()
    os.setxattr(overlay.upper / "a", "user.overlay.ino", str(number).encode())
    overlay.mounted().mount()

    assert (overlay.merged / "a").read_text() == "a"
    assert (overlay.merged / "b").read_text() == "b"
    assert (overlay.merged / "a").stat().st_ino != (overlay.merged / "b").stat().st_ino
    overlay.remount()
    assert (overlay.merged / "b").read_text() == "b"
    assert (overlay.merged / "a").read_text() == "a"


def test_a_redirect_in_a_hostile_layer_leads_nowhere(make_overlay: Callable[..., Overlay]) -> None:
    """Redirects with "..", links or empty parts are not followed."""
    overlay = make_overlay(lowers=2)
    top, bottom = overlay.lowers
    (overlay.base / "secret").mkdir()
    (overlay.base / "secret" / "key").write_text("secret")
    os.symlink(overlay.base / "secret", bottom / "link")
    for name, mark in {
        "a": b"/../secret",
        "b": b"../secret",
        "c": b"/link",
        "d": b"//secret",
        "e": b"/",
        "f": b".",
    }.items():
        (top / name).mkdir()
        os.setxattr(top / name, "user.overlay.redirect", mark)
        assert os.listdir(overlay.merged / name) == []


def test_a_layers_links_do_not_lead_the_server_out(overlay: Overlay) -> None:
    """A symlink in a layer is a symlink, wherever it points."""
    os.symlink("/etc", overlay.lower / "a")
    os.symlink("/etc/hostname", overlay.lower / "b")
    assert os.readlink(overlay.merged / "a") == "/etc"
    os.chmod(overlay.merged, 0o755)
    assert error(os.rmdir, overlay.merged / "a") == "ENOTDIR"
    (overlay.merged / "b").unlink()
    assert (overlay.merged / "a").is_symlink()

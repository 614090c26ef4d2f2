"""What of the host's files a container of the image `host` sees, and what it can do to them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

SECRET = "not for containers"


@pytest.fixture
def secret(sbx: Sbx) -> Path:
    """A file that all may read, in the user's home."""
    path = sbx.directory / "home/secret"
    path.write_text(SECRET)
    for parent in (path.parent, sbx.directory):
        parent.chmod(0o755)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_the_home_is_not_there_by_any_name(sbx: Sbx, secret: Path, profile: str) -> None:
    """The home is empty: under its path, through /proc/self/root, with the directory above it
    renamed, by a handle, and with overlay xattrs that lead to it."""
    code = f"""
    path = {str(secret)!r}
    top = "/" + path.split("/")[1]
    found = {{
        "path": attempt(read, path),
        "root": attempt(read, "/proc/self/root" + path),
        "dots": attempt(read, "/../.." + path),
    }}
    if {profile == "default"}:
        attempt(os.rename, top, "/renamed")
        found["renamed"] = attempt(read, path.replace(top, "/renamed", 1))
        attempt(os.mkdir, "/redirected")
        for prefix in ("user.overlay.", "trusted.overlay."):
            attempt(os.setxattr, "/redirected", prefix + "redirect", os.path.dirname(path).encode())
        found["redirected"] = attempt(read, "/redirected/secret")
    answer(found)
    """
    found = inside.run(sbx, code, profile=profile)

    assert set(found.values()) <= {"ENOENT", "EACCES"}, found


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_only_what_makes_up_the_system_is_shown(sbx: Sbx, profile: str) -> None:
    """Homes, /root, /run, /srv, /mnt, /boot, /var/log, ssh's keys and the machine's id are hidden;
    what only its owner may read is not readable by the container's root either."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    code = f"""
    hidden = ["/root", "/run", "/srv", "/mnt", "/media", "/boot", "/etc/ssh", {home!r}]
    empty = {{path: attempt(os.listdir, path) for path in hidden}}
    files = ["/etc/machine-id", "/etc/shadow", "/etc/gshadow", "/var/log/dpkg.log"]
    answer([empty, {{path: attempt(read, path) for path in files}}])
    """
    directories, files = inside.run(sbx, code, profile=profile)

    assert all(found in ([], "ENOENT", "EACCES") for found in directories.values()), directories
    assert set(files.values()) <= {"ENOENT", "EACCES"}, files


def test_the_store_of_sbx_is_not_shown(sbx: Sbx, tmp_path: Path) -> None:
    """Containers, images, sockets: not in the container, even when a mount shows what is above."""
    code = f"""
    base = {str(sbx.directory)!r}
    answer({{name: attempt(os.listdir, base + "/" + name) for name in ("data", "run", "config")}})
    """
    found = inside.run(sbx, code, profile="default")

    assert all(answer in ([], "ENOENT", "EACCES") for answer in found.values()), found


def test_the_store_is_closed_to_other_users(sbx: Sbx) -> None:
    """A set-uid file that a container makes can't be reached by other users of the host."""
    code = """
    open("/usr/bin/evil", "w").close()
    os.chmod("/usr/bin/evil", 0o6777)
    answer(oct(os.stat("/usr/bin/evil").st_mode))
    """
    limits = ("--cgroups", "best-effort", "--network", "none", "--name", "evil")
    command = ("host", inside.PYTHON, "-c", inside.script(code))
    sbx("run", *limits, *command, check=True)

    store = sbx.directory / "data/sbx"
    assert [path.name for path in store.rglob("evil")]
    closed = [store / "containers", *(store / "containers").glob("[0-9a-f]*")]
    assert [path.stat().st_mode & 0o077 for path in closed] == [0] * len(closed)


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_the_host_s_files_do_not_change(sbx: Sbx, profile: str) -> None:
    """Writing, truncating, linking, renaming and removing all end in the container's own layer."""
    paths = [Path("/etc/passwd"), Path("/etc/hostname"), Path("/usr/bin/env"), Path("/bin/sh")]
    before = [(path.stat(), path.read_bytes()) for path in paths]
    code = """
    attempt(lambda: open("/etc/passwd", "a").write("evil:x:0:0::/:/bin/sh"))
    attempt(os.link, "/usr/bin/env", "/usr/bin/linked")
    attempt(lambda: open("/usr/bin/linked", "wb").write(b"evil"))
    attempt(os.truncate, "/etc/hostname", 0)
    attempt(os.chmod, "/usr/bin/env", 0o4777)
    attempt(os.remove, "/bin/sh")
    attempt(os.rename, "/usr/bin", "/usr/moved")
    answer("done")
    """
    assert inside.run(sbx, code, profile=profile) == "done"

    after = [(path.stat(), path.read_bytes()) for path in paths]
    unchanged = [
        (old.st_mode, old.st_ino, old.st_mtime_ns, old.st_nlink, content)
        == (new.st_mode, new.st_ino, new.st_mtime_ns, new.st_nlink, now)
        for (old, content), (new, now) in zip(before, after, strict=True)
    ]
    assert unchanged == [True] * len(paths)


def test_xattrs_of_the_overlay_are_kept_apart(sbx: Sbx) -> None:
    """What a container writes as `user.overlay.…` never is an instruction to the overlay."""
    code = """
    os.mkdir("/opt/own")
    names = ["user.overlay.redirect", "user.overlay.opaque", "user.overlay.whiteout"]
    for name in names:
        os.setxattr("/opt/own", name, b"/etc")
    answer([sorted(os.listxattr("/opt/own")) == sorted(names), os.listdir("/opt/own")])
    """
    limits = ("--cgroups", "best-effort", "--network", "none", "--name", "xattrs")
    command = ("host", inside.PYTHON, "-c", inside.script(code))
    result = sbx("run", *limits, *command)

    assert inside.answer_of(result.stdout, result.stderr) == [True, []]
    own = next((sbx.directory / "data/sbx/containers").glob("*/upper/opt/own"))
    assert "user.overlay.redirect" not in os.listxattr(own)


def test_a_read_only_mount_can_not_be_written_or_made_writable(sbx: Sbx, secret: Path) -> None:
    """`-v PATH:/mnt:ro` is read-only through every path, and stays so."""
    code = """
    answer([
        read("/data/secret"),
        attempt(write, "/data/secret"),
        attempt(write, "/proc/self/root/data/secret"),
        attempt(os.chmod, "/data/secret", 0o666),
        attempt(os.utime, "/data/secret"),
        syscall(165, 0, b"/data", 0, 32 | 4096, 0),
    ])
    """
    found = inside.run(sbx, code, "-v", f"{secret.parent}:/data:ro", profile="default")

    assert found == [SECRET, "EROFS", "EROFS", "EROFS", "EROFS", "EPERM"]

"""The command sbx-fuse-overlay: fuse-overlayfs's options, the background, --check, podman."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse_overlay import check
from fuse_overlay.options import BadOption, parse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The command as a file that can be executed."""
    path = tmp_path / "sbx-fuse-overlay"
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m fuse_overlay.main "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """Directories for a mount by fusermount3, which is taken down at the end."""
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "a").write_text("lower")
    yield tmp_path
    if os.path.ismount(tmp_path / "merged"):
        subprocess.run(["fusermount3", "-u", tmp_path / "merged"], check=True)


def options(places: Path) -> str:
    return f"lowerdir={places}/lower,upperdir={places}/upper,workdir={places}/work"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], text=True, capture_output=True)


def test_it_returns_when_it_is_mounted(command: Path, places: Path) -> None:
    """The command goes to the background; the mount is there when it returns."""
    done = run(command, "-o", options(places), places / "merged")

    assert (done.returncode, done.stderr) == (0, "")
    assert (places / "merged" / "a").read_text() == "lower"
    (places / "merged" / "b").write_text("x")
    assert (places / "upper" / "b").read_text() == "x"


def test_it_is_called_as_mount_does(command: Path, places: Path) -> None:
    """mount -t fuse3.sbx-fuse-overlay calls with a source first and options of its own."""
    words = (command, "overlay", places / "merged", "-o", f"rw,nosuid,nodev,{options(places)}")
    done = run(*words)

    assert (done.returncode, done.stderr) == (0, "")
    assert (places / "merged" / "a").exists()


def test_a_signal_ends_it_and_the_mount(command: Path, places: Path) -> None:
    """In the foreground, SIGTERM unmounts."""
    words = [str(command), "-f", "-o", options(places), str(places / "merged")]
    process = subprocess.Popen(words)
    deadline = time.monotonic() + 20
    while not os.path.ismount(places / "merged"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (places / "merged" / "a").exists()
    process.terminate()
    assert process.wait(20) == 0
    assert not os.path.ismount(places / "merged")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upperdir=/u,workdir=/w", "lowerdir= is missing"),
        ("lowerdir=/l,upperdir=/u", "workdir="),
        ("lowerdir=/l,nonsense", "nonsense"),
        ("lowerdir=/l,uidmapping=1:2", "mapping"),
        ("lowerdir=/none", "/none"),
    ],
)
def test_what_is_wrong_is_said(command: Path, places: Path, text: str, message: str) -> None:
    """A bad option or a missing layer is one line on stderr and status 1."""
    done = run(command, "-o", text, places / "merged")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_fuse_overlayfs_options_are_understood() -> None:
    """All of fuse-overlayfs(1), and escapes as in the kernel's lowerdir."""
    mount = parse(
        [
            r"lowerdir=/a\:b:/c\,d,upperdir=/u,workdir=/w,squash_to_root,squash_to_uid=5",
            "uidmapping=0:1000:1:1:110000:65536,gidmapping=0:7:1,xattr_permissions=2,static_nlink",
            "noacl,volatile,size=10m,inodes=1k,fsync=0,redirect_dir=off,allow_other,ro",
        ]
    )
    config = mount.config
    assert config.lower == ("/a:b", "/c,d")
    assert (config.upper, config.work) == ("/u", "/w")
    assert (config.squash_uid, config.squash_gid) == (5, 0)
    assert config.uid_map == ((1000, 0, 1), (110000, 1, 65536))
    assert config.gid_map == ((7, 0, 1),)
    assert config.owner_map == "xattr"
    assert config.static_nlink
    assert config.volatile
    assert not config.acl
    assert not config.redirect_dir
    assert (config.size, config.inodes) == (10 << 20, 1 << 10)
    assert mount.options == {"allow_other", "ro"}
    with pytest.raises(BadOption):
        parse(["lowerdir=/a,squash_to_uid=root"])


def test_check_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check names broken marks, doubled numbers and leftovers; nothing in a sound upper."""
    upper, work = tmp_path / "upper", tmp_path / "work"
    for path in (upper / "d", work / "work", work / "index"):
        path.mkdir(parents=True)
    (upper / "a").touch()
    (upper / "b").touch()
    assert check.main([str(upper), str(work)]) == 0
    os.setxattr(upper / "d", "user.overlay.redirect", b"/../up")
    os.setxattr(upper / "a", "user.overlay.ino", b"77")
    os.setxattr(upper / "b", "user.overlay.ino", b"77")
    os.setxattr(upper / "d", "user.overlay.opaque", b"q")
    (work / "work" / "#1").touch()
    (work / "index" / "abc").touch()

    assert check.main([str(upper), str(work)]) == 1

    said = capsys.readouterr().out
    for part in ("redirect", "inode number", "opaque", "#1", "index/abc"):
        assert part in said
    assert len(said.splitlines()) == 5


def test_podman_runs_containers_on_it(command: Path, tmp_path: Path) -> None:
    """podman with overlay.mount_program set to the command runs a container that changes files."""
    podman, busybox = shutil.which("podman"), shutil.which("busybox")
    if podman is None or busybox is None:
        pytest.skip("podman or busybox is not installed")
    # podman wants a short path for its runroot.
    short = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    image = tmp_path / "image.tar"
    with tarfile.open(image, "w") as tar:
        tar.add(busybox, "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
        for name in ("dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    (tmp_path / "run").mkdir(mode=stat.S_IRWXU)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)}
    base = [
        podman, "--root", f"{tmp_path}/root", "--runroot", f"{short}/r",
        "--storage-driver", "overlay", "--storage-opt", f"overlay.mount_program={command}",
        "--cgroup-manager", "cgroupfs", "--events-backend", "file",
    ]  # fmt: skip

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*base, *words], text=True, capture_output=True, env=environment, timeout=120
        )

    script = (
        "busybox touch /etc/new && busybox chown 1:2 /etc/new && busybox stat -c %u:%g /etc/new"
    )
    try:
        loaded = call("import", "-q", str(image), "image")
        if loaded.returncode:
            pytest.skip(f"podman does not work here: {loaded.stderr[-200:]}")
        done = call("run", "--rm", "--network", "none", "--cgroups", "disabled", "image",
                    "/bin/sh", "-c", script)  # fmt: skip
        if "cgroup" in done.stderr:
            pytest.skip("crun does not work with this machine's cgroups")
        assert (done.stdout, done.returncode) == ("1:2\n", 0), done.stderr
    finally:
        call("system", "reset", "--force")
        shutil.rmtree(short, ignore_errors=True)

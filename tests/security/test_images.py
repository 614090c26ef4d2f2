"""An image that wants out: links in place of directories, files that are something else."""

from __future__ import annotations

import io
import os
import pty
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import rootfs
from tests.sbx_command import Sbx

pytestmark = pytest.mark.both_users

Build = Callable[..., str]

RUN = ("run", "--rm", "--network", "none", "--cgroups", "best-effort")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, 0o755
    return found


@pytest.fixture
def build(sbx: Sbx, busybox_tar: Path, tmp_path: Path) -> Build:
    """Import an image: busybox without *without*, and with *members*."""

    def build(
        *members: tuple[tarfile.TarInfo, bytes],
        without: tuple[str, ...] = (),
        overlay: str = "fuse",
    ) -> str:
        path = tmp_path / "hostile.tar"
        with tarfile.open(busybox_tar) as source, tarfile.open(path, "w") as target:
            for old in source:
                if old.name not in without:
                    target.addfile(old, source.extractfile(old) if old.isreg() else None)
            for new, content in members:
                new.size = len(content)
                target.addfile(new, io.BytesIO(content))
        sbx("import", path, "hostile", check=True)
        return "hostile"

    return build


@pytest.mark.parametrize("overlay", ["fuse", "kernel"])
@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
def test_a_link_in_place_of_a_directory_is_refused(
    sbx: Sbx, build: Build, place: str, overlay: str
) -> None:
    """/proc, /sys and /dev of an image may not be links: what isolates would be mounted elsewhere
    (CVE-2019-19921, CVE-2019-16884)."""
    image = build((member(place, tarfile.SYMTYPE, "/tmp"), b""), without=(place,))

    result = sbx(*RUN, "--overlay", overlay, image, "ls", "/tmp")

    if overlay == "kernel" and "overlay" in result.stderr and "can't be mounted" in result.stderr:
        pytest.skip("needs the kernel's overlay")
    assert result.returncode == 125
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("link", "code"), [("/etc", 0), ("../../../../../../etc", 0), ("/proc/self/root/etc", 125)]
)
def test_a_mount_s_target_stays_in_the_container(
    sbx: Sbx, build: Build, tmp_path: Path, link: str, code: int
) -> None:
    """-v onto a link of the image ends below the image's own root, whatever the link says; links
    of /proc are not followed."""
    image = build((member("target", tarfile.SYMTYPE, link), b""))
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "mine").write_text("x")

    result = sbx(*RUN, "-v", f"{volume}:/target", image, "cat", "/etc/mine")

    assert (result.returncode, result.stdout) == (code, "" if code else "x")


def test_links_lead_to_the_image_s_files(sbx: Sbx, build: Build) -> None:
    """A link to /etc/passwd or above the root shows the image's file, not the host's."""
    image = build(
        (member("passwd", tarfile.SYMTYPE, "../../../../../etc/passwd"), b""),
        (member("root-link", tarfile.SYMTYPE, "/../../.."), b""),
    )

    result = sbx(*RUN, image, "sh", "-c", "cat /passwd; ls /root-link/etc", check=True)

    assert result.stdout.startswith(rootfs._FILES["etc/passwd"].splitlines()[0])
    assert "hostname" in result.stdout
    assert "debian_version" not in result.stdout


@pytest.mark.parametrize(
    "passwd",
    [
        member("etc/passwd", tarfile.SYMTYPE, "/proc/self/environ"),
        member("etc/passwd", tarfile.SYMTYPE, "/dev/zero"),
        member("etc/passwd", tarfile.SYMTYPE, "/etc/passwd"),
        member("etc/passwd", tarfile.DIRTYPE),
        member("etc/passwd", tarfile.FIFOTYPE),
    ],
    ids=["environ", "zero", "loop", "directory", "fifo"],
)
def test_a_passwd_that_is_something_else_does_no_harm(
    sbx: Sbx, build: Build, passwd: tarfile.TarInfo
) -> None:
    """Looking up the user does not hang, and takes no file from outside of the root."""
    image = build((passwd, b""), without=("etc/passwd",))

    by_number = sbx(*RUN, "--user", "0", image, "true", timeout=30)
    by_name = sbx(*RUN, "--user", "daemon", image, "true", timeout=30)

    assert by_number.returncode in (0, 125)
    assert by_name.returncode == 125


@pytest.mark.parametrize(
    "line",
    [
        "evil:x:4294967295:4294967295::/:/bin/sh",
        "evil:x:99999999999999999999:0::/:/bin/sh",
        "evil:x:-1:0::/:/bin/sh",
        "evil:x:" + "9" * 5000 + ":0::/:/bin/sh",
    ],
    ids=["minus one", "huge", "negative", "digits"],
)
def test_ids_out_of_range_are_refused(sbx: Sbx, build: Build, line: str) -> None:
    """An id that setresuid(2) takes for "leave it as it is" does not leave the command root."""
    image = build((member("etc/passwd"), f"{line}\n".encode()), without=("etc/passwd",))

    result = sbx(*RUN, "--user", "evil", image, "id", "-u")

    assert (result.returncode, result.stdout) == (125, "")


def test_a_huge_passwd_costs_little(sbx: Sbx, build: Build) -> None:
    """Only the beginning of a huge /etc/passwd is read."""
    image = build(
        (member("etc/passwd"), b"x:x:1:1::/:/bin/sh\n" * 600_000), without=("etc/passwd",)
    )

    assert sbx(*RUN, image, "true", timeout=60).returncode == 0


def test_control_characters_do_not_reach_the_terminal(sbx: Sbx) -> None:
    """What listings and error messages show of names and commands has no escape codes; neither has
    a template's output, when it goes to a terminal."""
    evil = "\x1b]0;owned\x07"
    shown = [
        sbx("run", "--network", "none", "--label", f"a={evil}", "host", "true", evil),
        sbx("ps", "--all", "--no-trunc"),
        sbx("run", "--name", evil, "host", "true"),
        sbx("run", evil, "true"),
        sbx("exec", evil, "true"),
        sbx("profile", "show", evil),
    ]
    master, slave = pty.openpty()
    process = sbx.popen("ps", "--all", "--format", "{{.Command}} {{.Labels}}", stdout=slave)
    process.wait(timeout=60)
    os.close(slave)
    on_terminal = os.read(master, 65536)
    os.close(master)

    assert ["\x1b" in result.stdout + result.stderr for result in shown] == [False] * len(shown)
    assert on_terminal.strip()
    assert b"\x1b" not in on_terminal


def test_a_program_s_name_is_harmless_in_what_explain_says(sbx: Sbx) -> None:
    """A denied call is told with the name of the program, which the container chooses."""
    code = """
import ctypes
libc = ctypes.CDLL(None)
libc.prctl(15, b"\\x1b]0;owned\\x07", 0, 0, 0)
libc.unshare(0x10000000)
"""
    result = sbx(*RUN, "--explain", "host", "/usr/bin/python3", "-c", code)

    assert "denied unshare" in result.stderr
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr


@pytest.mark.parametrize("variable", ["A=b\nPATH=/evil", "A=\x1b[31m"])
def test_newlines_in_variables_stay_in_their_variable(sbx: Sbx, variable: str) -> None:
    """A value with a newline does not become two variables."""
    result = sbx(*RUN, "-e", variable, "host", "/usr/bin/env", "-0")

    assert variable in result.stdout.split("\0")
    assert "PATH=/evil" not in result.stdout.split("\0")

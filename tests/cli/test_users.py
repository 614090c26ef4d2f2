"""--user and an image's USER: with subordinate ids, and for users that have a single id."""

from __future__ import annotations

from pathlib import Path

from tests.sbx_command import Sbx

WHO = "id -u; id -g; echo x > /opt/file && stat -c %u:%g /opt/file"


def test_a_user_other_than_root_is_that_user(sbx: Sbx) -> None:
    """By number, whatever ids there are: it is what getuid(2) says, and what its files have."""
    options = ("--rm", "--network=none", "--tmpfs", "/opt", "--user", "1234:55")
    result = sbx("run", *options, "host", "sh", "-c", WHO)

    assert result.stdout == "1234\n55\n1234:55\n", result.stderr


def test_an_image_s_user_is_taken(sbx: Sbx, busybox_tar: Path) -> None:
    """USER of the image, by name; `exec` and another start are that user too, without rights."""
    sbx("import", busybox_tar, "box", check=True)
    passwd = "mkdir -p /etc /home/app; echo 'app:x:777:777::/home/app:/bin/sh' > /etc/passwd"
    sbx("run", "--name", "made", "--network=none", "box", "/bin/sh", "-c", passwd, check=True)
    sbx("commit", "-c", "USER app", "made", "app", check=True)
    started = ("run", "-d", "--name", "job", "--network=none", "app", "/bin/sleep", "1000")
    sbx(*started, check=True)

    assert sbx("exec", "job", "/bin/id", "-u", check=True).stdout == "777\n"
    capabilities = sbx("exec", "job", "/bin/grep", "CapEff", "/proc/self/status", check=True)
    assert capabilities.stdout.split() == ["CapEff:", "0000000000000000"]
    sbx("restart", "-t", "0", "job", check=True)
    assert sbx("exec", "job", "/bin/id", "-u", check=True).stdout == "777\n"


def test_a_user_that_nobody_knows_is_refused(sbx: Sbx) -> None:
    """A name has to be in /etc/passwd."""
    result = sbx("run", "--rm", "--network=none", "--user", "no-such-user", "host", "true")

    assert result.returncode == 125
    assert "unable to find user no-such-user" in result.stderr

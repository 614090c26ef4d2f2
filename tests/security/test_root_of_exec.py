"""Whoever enters a container's mount namespace finds its root, and nothing of the host's below."""

from __future__ import annotations

from tests.sbx_command import Sbx

# The kernel takes a process that joins a mount namespace to the topmost mount of its root
# (setns(2)): a forgotten mount there once showed the host to `exec`, while the container's own
# processes saw nothing wrong.
LOOK = "stat -c %d:%i /; cut -d' ' -f5,9,10 /proc/self/mountinfo"


def test_exec_and_the_command_see_the_same_mounts(sbx: Sbx) -> None:
    """The list of mounts is the same in the container's command and in `exec`."""
    script = f"({LOOK}) > /seen; sleep 1000"
    sbx("run", "-d", "--name=cc", "--network=none", "host", "sh", "-c", script, check=True)

    own = sbx("exec", "cc", "sh", "-c", LOOK, check=True).stdout
    seen = sbx("exec", "cc", "cat", "/seen", check=True).stdout

    assert own == seen
    assert own.splitlines()[1:]


def test_no_file_system_of_the_host_is_mounted(sbx: Sbx) -> None:
    """Of the host's mounts only device nodes are in the container's list."""
    mounts = sbx(
        "run", "--rm", "--network=none", "host", "cat", "/proc/self/mountinfo", check=True
    ).stdout.splitlines()

    kinds = {(line.split()[4], line.split(" - ")[1].split()[0]) for line in mounts}
    others = {
        (path, kind)
        for path, kind in kinds
        if kind not in ("fuse", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2")
    }
    assert {path.rsplit("/", 1)[0] for path, _ in others} <= {"/dev", "/proc"}
    assert {kind for _, kind in others} <= {"devtmpfs", "devpts"}

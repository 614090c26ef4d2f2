"""/proc and /sys: nothing of the host's processes, nothing that changes the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users

# Paths that tell of the host or have had holes: hidden by runc, by podman, or by both.
HIDDEN_FILES = (
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/vmallocinfo",
)
HIDDEN_DIRECTORIES = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_what_tells_of_the_host_is_masked(sbx: Sbx, profile: str) -> None:
    """Masked files are empty, masked directories have nothing in them."""
    code = f"""
    answer([
        {{path: attempt(read, path) for path in {HIDDEN_FILES}}},
        {{path: attempt(os.listdir, path) for path in {HIDDEN_DIRECTORIES}}},
    ])
    """
    files, directories = inside.run(sbx, code, profile=profile)

    assert set(files.values()) <= {"", "ENOENT"}, files
    assert all(found in ([], "ENOENT") for found in directories.values()), directories


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_kernel_parameters_can_not_be_changed(sbx: Sbx, profile: str) -> None:
    """/proc/sys, sysrq and /sys are mounted read-only, over what file modes say."""
    code = """
    paths = ["/proc/sys/kernel/msgmax", "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper", "/sys/class/net/lo/mtu", "/sys/power/state"]
    flags = {d: os.statvfs(d).f_flag & os.ST_RDONLY for d in ("/proc/sys", "/proc/irq",
        "/proc/bus", "/proc/fs", "/sys", "/sys/fs/cgroup")}
    answer([{path: attempt(write, path) for path in paths}, flags])
    """
    writes, flags = inside.run(sbx, code, profile=profile)

    assert set(writes.values()) <= {"EROFS", "EACCES", "ENOENT", "EPERM"}, writes
    assert set(flags.values()) == {os.ST_RDONLY}, flags


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_no_file_of_sys_is_writable(sbx: Sbx, profile: str) -> None:
    """Not one file of all of /sys can be opened for writing."""
    code = """
    writable = []
    for directory, _, names in os.walk("/sys"):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path) and os.access(path, os.W_OK):
                writable.append(path)
    answer(writable[:5])
    """
    assert inside.run(sbx, code, profile=profile) == []


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_processes_of_the_host_are_not_seen(sbx: Sbx, profile: str) -> None:
    """/proc lists the container's own processes, pids of others mean nothing in it."""
    code = f"""
    own = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    pid = {os.getpid()}
    answer([max(own) < 20, attempt(os.kill, pid, 0), os.path.exists(f"/proc/{{pid}}")])
    """
    found = inside.run(sbx, code, profile=profile)

    assert found in ([True, "ESRCH", False], [True, "EPERM", False])


def test_pid_1_of_ours_gives_nothing_away(sbx: Sbx) -> None:
    """With --init, pid 1 is a process of sbx: its memory, environment, files, root and program are
    closed, and its command line, which everyone may read, is blank."""
    code = """
    answer([
        {name: attempt(read, "/proc/1/" + name) for name in ("environ", "mem", "maps", "auxv")},
        {name: attempt(os.readlink, "/proc/1/" + name) for name in ("exe", "root", "cwd")},
        attempt(os.listdir, "/proc/1/fd"),
        read("/proc/1/cmdline").strip("\\0"),
        read("/proc/2/environ").count("SECRET"),
    ])
    """
    files, links, descriptors, command_line, in_child = inside.run(
        sbx, code, "--init", env={"SECRET": "of-the-user"}
    )

    assert set(files.values()) == {"EACCES"}
    assert set(links.values()) == {"EACCES"}
    assert descriptors == "EACCES"
    assert command_line == ""
    assert in_child == 0


def test_no_path_of_the_host_shows_in_the_mount_table(sbx: Sbx) -> None:
    """mountinfo names no directory of the user's: not the store, not the home."""
    code = "answer(open('/proc/self/mountinfo').read())"
    table = inside.run(sbx, code)

    assert str(sbx.directory) not in table
    assert str(Path.home()) not in table

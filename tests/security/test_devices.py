"""/dev is the container's own, with harmless devices alone; set-uid programs gain nothing."""

from __future__ import annotations

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = pytest.mark.both_users


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_only_harmless_devices_are_there(sbx: Sbx, profile: str) -> None:
    """No disk, memory, kernel log, fuse, tun, kvm; each device has the number that it should."""
    code = """
    found = {}
    for directory, _, names in os.walk("/dev"):
        for name in names:
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found[name] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    answer(found)
    """
    assert inside.run(sbx, code, profile=profile) == {
        "null": [1, 3],
        "zero": [1, 5],
        "full": [1, 7],
        "random": [1, 8],
        "urandom": [1, 9],
        "tty": [5, 0],
        "ptmx": [5, 2],
    }


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_devices_can_not_be_made(sbx: Sbx, profile: str) -> None:
    """mknod of a disk or of /dev/mem fails, and every file system of the container is nodev."""
    code = """
    made = {place: attempt(os.mknod, place + "/disk", 0o60666, os.makedev(254, 0))
        for place in ("/opt", "/tmp", "/dev", "/dev/shm")}
    lines = [line.split() for line in open("/proc/self/mountinfo")]
    with_devices = [line[4] for line in lines if "nodev" not in line[5].split(",")]
    answer([made, with_devices])
    """
    made, with_devices = inside.run(sbx, code, profile=profile)

    assert set(made.values()) <= {"EPERM", "EACCES"}, made
    # These have to be without nodev, as they are devices; those of masked files are /dev/null.
    assert {path for path in with_devices if not path.startswith("/proc/")} <= {
        "/dev",
        "/dev/pts",
        *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")),
    }


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_set_uid_programs_gain_nothing(sbx: Sbx, profile: str) -> None:
    """no_new_privs is set, every mount is nosuid, and no capability is left to be inherited."""
    code = """
    status = dict(line.split(":\\t", 1) for line in read("/proc/self/status").splitlines())
    lines = [line.split() for line in open("/proc/self/mountinfo")]
    answer([
        status["NoNewPrivs"], status["CapInh"], status["CapAmb"], status["CapBnd"],
        [line[4] for line in lines if "nosuid" not in line[5].split(",")],
    ])
    """
    no_new_privs, inheritable, ambient, bounding, with_suid = inside.run(sbx, code, profile=profile)

    assert no_new_privs == "1"
    assert int(inheritable, 16) == int(ambient, 16) == 0
    # podman's eleven, or none at all
    assert int(bounding, 16) == (0x800405FB if profile == "default" else 0)
    assert with_suid == []


@pytest.mark.parametrize("option", ["/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/vda"])
def test_devices_of_the_host_are_refused(sbx: Sbx, option: str) -> None:
    """--device takes harmless devices alone."""
    result = sbx("run", "--rm", "--device", option, "--network", "none", "host", "true")

    assert result.returncode != 0
    assert option in result.stderr

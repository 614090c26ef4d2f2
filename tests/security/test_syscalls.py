"""System calls that a container has no business with are refused by the filter.

`untrusted` gives no capabilities either, so a refusal alone would not show whose it is: the calls
tested here are made with arguments that fail otherwise (EFAULT, EINVAL, EBADF) or that succeed.
"""

from __future__ import annotations

import platform

import pytest

from tests.sbx_command import Sbx
from tests.security import inside

pytestmark = [
    pytest.mark.both_users,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64 (its numbers)"),
]

# name: arguments of syscall(2). Grouped as docker's documentation groups what it denies.
NAMESPACES = {
    "unshare user": "272, 0x10000000",
    "unshare mount": "272, 0x20000",
    "unshare net": "272, 0x40000000",
    "setns": "308, -1, 0",
    "clone with a new user namespace": "56, 0x10000000 | 17, 0, 0, 0, 0",
}
MOUNTS = {
    "mount": "165, 0, 0, 0, 0, 0",
    "umount2": "166, 0, 0",
    "pivot_root": "155, 0, 0",
    "fsopen": "430, 0, 0",
    "open_tree": "428, -1, 0, 0",
    "move_mount": "429, -1, 0, -1, 0, 0",
    "mount_setattr": "442, -1, 0, 0, 0, 0",
}
KERNEL = {
    "bpf": "321, 0, 0, 0",
    "perf_event_open": "298, 0, 0, -1, -1, 0",
    "userfaultfd": "323, 1",
    "io_uring_setup": "425, 1, 0",
    "init_module": "175, 0, 0, 0",
    "finit_module": "313, -1, 0, 0",
    "delete_module": "176, 0, 0",
    "kexec_load": "246, 0, 0, 0, 0",
    "reboot": "169, 0, 0, 0, 0",
    "swapon": "167, 0, 0",
    "acct": "163, 0",
    "syslog": "103, 10, 0, 0",
    "settimeofday": "164, 0, 0",
    "open_by_handle_at": "304, -1, 0, 0",
    "fanotify_init": "300, 0, 0",
    "iopl": "172, 3",
    "quotactl": "179, 0, 0, 0, 0",
}
KEYS = {
    "keyctl": "250, 0, -3, 1",
    "add_key": "248, 0, 0, 0, 0, -3",
    "request_key": "249, 0, 0, 0, 0",
}
GROUPS = {"namespaces": NAMESPACES, "mounts": MOUNTS, "kernel": KERNEL, "keys": KEYS}
# Debugging one's own processes is what `default` gives, as docker does on kernels from 4.8.
UNTRUSTED_ONLY = {
    "ptrace": "101, 0, 0, 0, 0",
    "process_vm_readv": "310, 1, 0, 0, 0, 0, 0",
    "process_vm_writev": "311, 1, 0, 0, 0, 0, 0",
    "memfd_secret": "447, 0",
    "chroot": "161, 0",
}


def outcomes(sbx: Sbx, calls: dict[str, str], profile: str) -> dict[str, str]:
    lines = "".join(f"    {name!r}: syscall({arguments}),\n" for name, arguments in calls.items())
    answer = inside.run(sbx, f"answer({{\n{lines}}})", profile=profile)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("profile", inside.PROFILES)
@pytest.mark.parametrize("group", GROUPS)
def test_dangerous_calls_are_denied(sbx: Sbx, group: str, profile: str) -> None:
    """Namespaces, mounts, the kernel's own interfaces and keyrings are out of reach."""
    found = outcomes(sbx, GROUPS[group], profile)

    assert found == dict.fromkeys(GROUPS[group], "EPERM")


def test_untrusted_may_not_debug(sbx: Sbx) -> None:
    """The profile for hostile code denies tracing and secret memory besides."""
    found = outcomes(sbx, UNTRUSTED_ONLY, "untrusted")

    assert found == dict.fromkeys(UNTRUSTED_ONLY, "EPERM")


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_unknown_calls_do_not_exist(sbx: Sbx, profile: str) -> None:
    """What the filter does not know (also x32's numbers, and clone3, whose flags it can't see) is
    ENOSYS, so that programs fall back instead of failing."""
    calls = {"unknown": "9999", "x32": "0x40000000 | 39", "clone3": "435, 0, 0"}

    assert outcomes(sbx, calls, profile) == dict.fromkeys(calls, "ENOSYS")


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_socket_families_that_leave_the_namespace_are_denied(sbx: Sbx, profile: str) -> None:
    """No AF_VSOCK (the hypervisor), AF_ALG, AF_PACKET, AF_XDP; no netlink to audit and xfrm."""
    code = """
    families = {"vsock": 40, "alg": 38, "xdp": 44, "bluetooth": 31, "nfc": 39, "can": 29}
    found = {n: attempt(lambda: socket.socket(f, 5).close()) for n, f in families.items()}
    found["packet"] = attempt(lambda: socket.socket(17, 3).close())
    found["netlink audit"] = attempt(lambda: socket.socket(16, 3, 9).close())
    found["netlink netfilter"] = attempt(lambda: socket.socket(16, 3, 12).close())
    found["unix"] = attempt(lambda: socket.socket(1, 1).close())
    answer(found)
    """
    found = inside.run(sbx, code, profile=profile)

    assert found.pop("unix") is None
    assert set(found.values()) <= {"EAFNOSUPPORT", "EPERM", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
    assert found["vsock"] == found["alg"] == "EAFNOSUPPORT"


@pytest.mark.parametrize("profile", inside.PROFILES)
def test_input_can_not_be_pushed_into_a_terminal(sbx: Sbx, profile: str) -> None:
    """TIOCSTI and TIOCLINUX are denied, also with rubbish in the upper half of the request, which
    the kernel ignores (CVE-2019-10063 in flatpak)."""
    code = """
    master, slave = os.openpty()
    requests = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "high": 1 << 32 | 0x5412,
        "negative": -(1 << 32) | 0x5412}
    answer({
        name: syscall(16, slave, ctypes.c_long(request), b"x") for name, request in requests.items()
    })
    """
    found = inside.run(sbx, code, profile=profile)

    assert set(found.values()) == {"EPERM"}


def test_a_process_of_another_architecture_is_not_served(sbx: Sbx) -> None:
    """int 0x80 in a 64-bit process does not get around the filter."""
    code = """
    import mmap
    # mov eax, 20 (getpid of i386); int 0x80; ret: and keyctl, 288, which is denied on x86-64
    found = {}
    for name, number in (("keyctl", 288), ("unshare", 310)):
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # push rbx; mov ebx, 0x10000000; mov eax, number; int 0x80; pop rbx; ret
        page.write(
            b"\\x53\\xbb" + struct.pack("<I", 0x10000000) + b"\\xb8" + struct.pack("<I", number)
            + b"\\xcd\\x80\\x5b\\xc3"
        )
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        pid = os.fork()
        if pid == 0:
            result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
            os._exit(1 if result >= 0 else -result)
        found[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answer(found)
    """
    found = inside.run(sbx, code)

    # EPERM, ENOSYS, or killed by the filter or by a kernel without i386.
    assert all(status in (1, 38) or status < 0 for status in found.values()), found

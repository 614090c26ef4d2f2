"""The profiles that come with sbx: what they let through and what they stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.linux import capabilities
from sandbox.linux.seccomp_bpf import RET_ALLOW, RET_ERRNO, evaluate
from sandbox.linux.seccomp_compile import compile_profile, nesting, this_machine
from sandbox.linux.seccomp_json import parse
from sandbox.linux.seccomp_library import known, resolve
from sandbox.linux.seccomp_profile import Profile
from sandbox.linux.seccomp_syscalls import AUDIT_ARCHITECTURES, LATE_CALLS, native

NATIVE = native()
if NATIVE is None:
    pytest.skip("sbx has no seccomp filters for this architecture", allow_module_level=True)
TOKEN = AUDIT_ARCHITECTURES[NATIVE.name]
PROFILES = Path(__file__).resolve().parents[2] / "profiles/seccomp"
NAMES = ("default", "untrusted")
DANGEROUS = """
    unshare setns mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsmount
    fsconfig fspick mount_setattr keyctl add_key request_key bpf perf_event_open userfaultfd
    io_uring_setup io_uring_enter io_uring_register kexec_load init_module finit_module
    delete_module open_by_handle_at quotactl acct swapon swapoff reboot settimeofday
    clock_settime nfsservctl lookup_dcookie uselib ustat sysfs iopl ioperm syslog vhangup
    fanotify_init move_pages migrate_pages kcmp process_madvise sethostname setdomainname
"""
DEBUGGING = "ptrace process_vm_readv process_vm_writev memfd_secret chroot vmsplice"
TOO_NEW = {"riscv_hwprobe"}  # for Debian 12's libseccomp
EPERM, ENOSYS, EAFNOSUPPORT = (RET_ERRNO | number for number in (1, 38, 97))


def load(name: str, caps: frozenset[str] = capabilities.DEFAULT) -> Profile:
    return parse((PROFILES / f"{name}.json").read_bytes(), name).for_machine(this_machine(caps))


PROGRAMS = {name: compile_profile(load(name)) for name in NAMES}


def answer(program: bytes, name: str, *args: int) -> int:
    number = LATE_CALLS.get(name, resolve(name, TOKEN))
    if number is None:
        pytest.skip(f"no {name} on {NATIVE.name if NATIVE else ''}")
    return evaluate(program, number, TOKEN, [*args, *[0] * (6 - len(args))])


def test_every_name_is_a_system_call() -> None:
    """A misspelt name would silently be a call that is not allowed."""
    for name in NAMES:
        profile = parse((PROFILES / f"{name}.json").read_bytes(), name)
        for rule in profile.rules:
            assert {n for n in rule.names if not known(n)} - set(LATE_CALLS) - TOO_NEW == set()
            assert rule.comment, f"{rule.names} has no comment to explain it"


def test_no_call_stands_in_two_lists() -> None:
    """Two unconditional rules for one call would be a contradiction that only sbx resolves."""
    for name in NAMES:
        names = [n for rule in load(name).rules if not rule.conditions for n in rule.names]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "call",
    DANGEROUS.split(),
)
def test_dangerous_calls_are_denied(name: str, call: str) -> None:
    """With podman's capabilities, by both profiles; unshare and setns with a namespace."""
    flags = 0x10000000

    assert answer(PROGRAMS[name], call, flags, flags) == EPERM


@pytest.mark.parametrize("name", NAMES)
def test_clone_may_not_make_namespaces(name: str) -> None:
    """Threads and processes yes, CLONE_NEW* no, clone3 with its hidden flags not at all."""
    program = PROGRAMS[name]
    first = (0,) if NATIVE and NATIVE.name.startswith("s390") else ()

    assert answer(program, "clone", *first, 0x3D0F00) == RET_ALLOW  # pthread_create
    assert answer(program, "clone", *first, 17) == RET_ALLOW  # fork
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert answer(program, "clone", *first, 1 << bit | 17) == EPERM
        assert answer(program, "unshare", 1 << bit) == EPERM
    assert answer(program, "unshare", 0x80) == EPERM  # CLONE_NEWTIME
    assert answer(program, "unshare", 0x400) == RET_ALLOW  # CLONE_FILES
    assert answer(program, "clone3") == ENOSYS


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_can_not_be_typed_into(name: str) -> None:
    """TIOCSTI, TIOCLINUX and TIOCSETD, also with rubbish in the upper half of the register."""
    for request in (0x5412, 0x541C, 0x5423):
        assert answer(PROGRAMS[name], "ioctl", 0, request) == EPERM
        assert answer(PROGRAMS[name], "ioctl", 0, request | 0xFFFFFFFF << 32) == EPERM
    assert answer(PROGRAMS[name], "ioctl", 0, 0x5413) == RET_ALLOW


@pytest.mark.parametrize("name", NAMES)
def test_sockets_are_allowed_by_family(name: str) -> None:
    """UNIX, IPv4, IPv6 and NETLINK_ROUTE; nothing that is rarely used and often broken."""
    program = PROGRAMS[name]

    for family in (1, 2, 10, 16, 2 | 1 << 32):
        assert answer(program, "socket", family, 1, 0) == RET_ALLOW
    for family in (0, 15, 17, 21, 26, 29, 30, 31, 38, 40, 44, 45):
        assert answer(program, "socket", family, 1, 0) == EAFNOSUPPORT
    assert answer(program, "socket", 16, 3, 12) == EAFNOSUPPORT  # NETLINK_NETFILTER
    assert answer(program, "socketpair", 1, 1, 0) == RET_ALLOW
    assert answer(program, "socketpair", 30, 1, 0) == EAFNOSUPPORT


def test_untrusted_has_no_unusual_protocols_and_no_debugging() -> None:
    """What `default` has for developers and servers is missing in `untrusted`."""
    default, untrusted = PROGRAMS["default"], PROGRAMS["untrusted"]

    assert answer(default, "socket", 2, 1, 132) == RET_ALLOW  # SCTP
    assert answer(untrusted, "socket", 2, 1, 132) == EAFNOSUPPORT
    assert answer(untrusted, "socket", 10, 2, 17) == RET_ALLOW
    for call in DEBUGGING.split():
        assert answer(default, call) == RET_ALLOW, call
        assert answer(untrusted, call) == EPERM, call
    assert answer(default, "personality", 0x40000) == RET_ALLOW
    assert answer(untrusted, "personality", 0x40000) == EPERM
    assert answer(default, "personality", 0x400000) == EPERM  # READ_IMPLIES_EXEC


@pytest.mark.parametrize("name", NAMES)
def test_unknown_calls_do_not_exist(name: str) -> None:
    """libc falls back from ENOSYS alone."""
    assert evaluate(PROGRAMS[name], 1000, TOKEN, [0] * 6) == ENOSYS


@pytest.mark.skipif(NATIVE.name != "x86_64", reason="32-bit x86 calls: x86_64 only")
def test_32_bit_calls_have_no_way_around() -> None:
    """`default` runs 32-bit programs under the same rules, `untrusted` none, x32 nobody."""
    x86 = AUDIT_ARCHITECTURES["x86"]
    default, untrusted = PROGRAMS["default"], PROGRAMS["untrusted"]

    assert evaluate(default, 3, x86, [0] * 6) == RET_ALLOW  # read
    assert evaluate(default, 310, x86, [0x10000000, 0, 0, 0, 0, 0]) == EPERM  # unshare
    assert evaluate(default, 120, x86, [0x10000000, 0, 0, 0, 0, 0]) == EPERM  # clone
    assert evaluate(default, 54, x86, [0, 0x5412, 0, 0, 0, 0]) == EPERM  # ioctl
    assert evaluate(default, 102, x86, [1, 0, 0, 0, 0, 0]) == EPERM  # socketcall
    assert evaluate(default, 359, x86, [40, 0, 0, 0, 0, 0]) == EAFNOSUPPORT  # socket
    for number in range(470):
        assert evaluate(untrusted, number, x86, [0] * 6) == ENOSYS
        assert evaluate(default, number | 0x40000000, TOKEN, [0] * 6) == ENOSYS


def test_capabilities_open_what_they_are_for() -> None:
    """As docker's profile: a capability in the container's own namespace opens its calls."""
    for capability, call in (
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_BPF", "bpf"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ):
        program = compile_profile(load("default", capabilities.DEFAULT | {capability}))
        assert answer(program, call, 0x10000000) == RET_ALLOW
        program = compile_profile(load("untrusted", capabilities.ALL))
        assert answer(program, call, 0x10000000) != RET_ALLOW
    program = compile_profile(load("default", capabilities.DEFAULT | {"CAP_NET_ADMIN"}))
    assert answer(program, "socket", 16, 3, 12) == RET_ALLOW


def test_a_nesting_container_may_mount_and_nothing_else_more() -> None:
    """nest opens namespaces and mounts, not BPF or kernel modules."""
    program = compile_profile(nesting(load("default")))

    assert answer(program, "clone", 0x10000011) == RET_ALLOW
    assert answer(program, "unshare", 0x10000000) == RET_ALLOW
    assert answer(program, "mount") == RET_ALLOW
    for call in ("bpf", "init_module", "io_uring_setup", "keyctl"):
        assert answer(program, call) == EPERM

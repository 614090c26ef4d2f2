"""Filters in the kernel: what is installed, what it answers, what can't get round it."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.linux import capabilities, seccomp
from sandbox.linux.libc import syscall
from sandbox.linux.seccomp_bpf import RET_ALLOW, RET_ERRNO, RETURN, assemble
from sandbox.linux.syscalls import PR_SET_NO_NEW_PRIVS, prctl
from tests.kernel.forked import errno_of, forked

PROFILES = Path(__file__).resolve().parents[2] / "profiles/seccomp"
X86_64 = os.uname().machine == "x86_64"
only_x86_64 = pytest.mark.skipif(not X86_64, reason="system call numbers of x86_64")
TIOCSTI = 0x5412


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seccomp")


Compile = Callable[..., seccomp.Filter]


@pytest.fixture
def compiled(cache: Path) -> Compile:
    def compile_named(name: str, **flags: bool) -> seccomp.Filter:
        return seccomp.compile_filter(
            seccomp.load_profile(name, [PROFILES]),
            capabilities=capabilities.DEFAULT,
            cache=cache,
            **flags,
        )

    return compile_named


def below(filter_: seccomp.Filter, function: Callable[[], Any]) -> Any:
    """Run *function* in a child below *filter_*."""

    def confined() -> Any:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        for program in filter_.programs:
            assert seccomp.install(program) is None
        return function()

    return forked(confined)


def test_a_program_without_no_new_privs_is_refused() -> None:
    """The kernel takes filters of ordinary users under no_new_privs alone."""
    allow = assemble([(RETURN, 0, 0, RET_ALLOW)])

    assert forked(lambda: errno_of(lambda: seccomp.install(allow))) == errno.EACCES


def test_the_last_filter_s_errno_wins() -> None:
    """What docs/seccomp.md says of several programs is the kernel's rule."""
    programs = tuple(
        assemble([(0x20, 0, 0, 0), (0x15, 0, 1, 110), (RETURN, 0, 0, action), (6, 0, 0, RET_ALLOW)])
        for action in (RET_ERRNO | 1, RET_ERRNO | 2)
    )
    if not X86_64:
        pytest.skip("system call numbers of x86_64")

    assert below(seccomp.Filter(programs), lambda: errno_of(lambda: syscall(110))) == 2


@pytest.mark.parametrize("name", ["default", "untrusted"])
def test_namespaces_are_refused_and_programs_run(compiled: Compile, name: str) -> None:
    """unshare is EPERM, and Python starts a program, a thread and a socket."""

    def try_it() -> list[Any]:
        code = "import threading, socket; t = threading.Thread(target=int); t.start(); t.join()"
        ran = subprocess.run([sys.executable, "-c", code], check=False).returncode
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
        libc = ctypes.CDLL(None, use_errno=True)
        results = [libc.unshare(0x10000000), ctypes.get_errno()]
        return [ran, *results, errno_of(lambda: socket.socket(socket.AF_VSOCK))]

    assert below(compiled(name), try_it) == [0, -1, errno.EPERM, errno.EAFNOSUPPORT]


@pytest.mark.parametrize("upper", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_tiocsti_is_refused_whatever_is_in_the_upper_half(compiled: Compile, upper: int) -> None:
    """The kernel ignores the upper 32 bits of an ioctl's request, and so does the filter."""

    def type_into_the_terminal() -> int:
        _, slave = os.openpty()
        number = 16 if X86_64 else 29
        byte = ctypes.c_char(b"x")
        return errno_of(lambda: syscall(number, slave, TIOCSTI | upper, ctypes.addressof(byte)))

    assert below(compiled("default"), type_into_the_terminal) == errno.EPERM


def test_other_ioctls_pass(compiled: Compile) -> None:
    """The window size can be read."""

    def window_size() -> list[int]:
        _, slave = os.openpty()
        size = array.array("h", [0, 0, 0, 0])
        fcntl.ioctl(slave, 0x5413, size)
        return list(size)

    assert below(compiled("untrusted"), window_size) == [0, 0, 0, 0]


def test_clone3_is_not_there_and_unknown_calls_neither(compiled: Compile) -> None:
    """libc falls back from ENOSYS."""

    def ask() -> list[int]:
        return [errno_of(lambda n=n: syscall(n, 0, 0)) for n in (435, 1000)]  # type: ignore[misc]

    assert below(compiled("default"), ask) == [errno.ENOSYS] * 2


# int 0x80 from a 64-bit program: the way round a filter that looks at numbers alone.
#   push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; pop rbx; ret
INT_80 = bytes.fromhex("53 89f8 89f3 89d1 cd80 5b c3")


def int_80(number: int, first: int = 0, second: int = 0) -> int:
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(INT_80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
    return int(call(number, first, second))


@only_x86_64
def test_int_80_is_filtered_by_its_own_numbers(compiled: Compile) -> None:
    """32-bit calls of a 64-bit program meet the rules for 32-bit x86."""
    if forked(lambda: int_80(20)) < 0:
        pytest.skip("this kernel has no 32-bit x86 calls")

    def ask() -> list[int]:
        return [int_80(20) > 0, int_80(310, 0x10000000), int_80(102, 1), int_80(359, 40, 1)]

    refused = [-errno.EPERM, -errno.EPERM, -errno.EAFNOSUPPORT]
    assert below(compiled("default"), ask) == [True, *refused]
    assert below(compiled("untrusted"), lambda: int_80(20)) == -errno.ENOSYS


@only_x86_64
def test_x32_calls_are_not_there(compiled: Compile) -> None:
    """They share the numbers of 64-bit calls but for one bit."""
    assert (
        below(compiled("default"), lambda: errno_of(lambda: syscall(0x40000000 | 39)))
        == errno.ENOSYS
    )


def test_other_owners_are_pretended(compiled: Compile, tmp_path: Path) -> None:
    """With one id, chown and setgroups to others succeed and change nothing."""
    file = tmp_path / "file"
    file.touch()
    mine = os.getuid()

    def change() -> list[Any]:
        os.chown(file, 12345, 12345)
        os.lchown(file, 33, -1)
        os.chown("file", 1 << 31, 7, dir_fd=os.open(tmp_path, os.O_RDONLY))
        os.setgroups([1, 2, 3])
        os.setresuid(33, 33, 33)
        os.setgid(65534)
        return [os.getuid(), os.stat(file).st_uid, errno_of(lambda: os.chown(file, 0, 0))]

    single = compiled("default", single_uid=True)
    assert "fchownat" in single.emulates
    really_root = 0 if mine == 0 else errno.EPERM
    assert below(single, change) == [mine, mine, really_root]
    assert compiled("default").emulates == ()


def test_a_cached_filter_needs_no_library(compiled: Compile, cache: Path) -> None:
    """Loading a compiled filter imports no parser and no libseccomp."""
    compiled("default")
    code = """if True:
        import sys
        from pathlib import Path
        from sandbox.linux import capabilities, seccomp
        seccomp.compile_filter(
            seccomp.load_profile("default", [Path(sys.argv[1])]),
            capabilities=capabilities.DEFAULT, cache=Path(sys.argv[2]))
        assert "libseccomp" not in open("/proc/self/maps").read()
        assert not {"json", "sandbox.linux.seccomp_compile"} & set(sys.modules), sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": str(PROFILES.parents[1])}

    subprocess.run(
        [sys.executable, "-c", code, str(PROFILES), str(cache)], check=True, env=environment
    )

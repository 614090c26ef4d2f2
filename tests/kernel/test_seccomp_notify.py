"""Denials that are told: the listener, the answers and the words."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.linux import capabilities, seccomp, seccomp_notify, syscalls
from sandbox.linux.libc import libc, syscall
from sandbox.linux.seccomp_explain import Explainer
from sandbox.linux.syscalls import PR_SET_NO_NEW_PRIVS, prctl
from tests.kernel.forked import errno_of

PROFILE = seccomp.load_profile(
    "default", [Path(__file__).resolve().parents[2] / "profiles/seccomp"]
)
SECONDS = 30.0


@dataclass(frozen=True)
class Confined:
    """A child below a notifying filter, and what is needed to answer for it."""

    pid: int
    listener: int
    results: int  # a pipe; the child writes the errno of each call as one byte
    explainer: Explainer

    def answer(self) -> Any:
        assert seccomp_notify.wait_readable(self.listener, SECONDS)
        notification = seccomp_notify.receive(self.listener)
        explanation = self.explainer.explain(notification)
        assert seccomp_notify.valid(self.listener, notification)
        assert seccomp_notify.deny(self.listener, notification, explanation.errno)
        return explanation

    def result(self) -> int:
        return os.read(self.results, 1)[0]


Start = Callable[..., contextlib.AbstractContextManager[Confined]]


@pytest.fixture
def confined(tmp_path: Path) -> Start:
    @contextlib.contextmanager
    def start(*calls: Callable[[], Any]) -> Iterator[Confined]:
        caps = capabilities.DEFAULT
        filter_ = seccomp.compile_filter(PROFILE, capabilities=caps, cache=tmp_path, explain=True)
        assert filter_.notify
        explainer = Explainer.of(PROFILE, capabilities=caps, cache=tmp_path, source="default")
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(filter_, theirs, writing, calls)
        os.close(writing)
        theirs.close()
        with ours:
            _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
        try:
            yield Confined(pid, listener, reading, explainer)
        finally:
            os.close(listener)
            os.close(reading)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    return start


def _child(
    filter_: seccomp.Filter, channel: socket.socket, results: int, calls: tuple[Any, ...]
) -> None:
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        listener = seccomp.install(filter_.programs[-1], listener=True)
        assert listener is not None
        socket.send_fds(channel, [b"x"], [listener])
        os.close(listener)
        for call in calls:
            os.write(results, bytes([errno_of(call)]))
    finally:
        os._exit(0)


def unshare() -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID)


def test_the_sizes_are_the_kernel_s() -> None:
    """The structures of the running kernel fit the ones that are read and written."""
    assert seccomp_notify.notification_sizes() == (80, 24)


def test_a_denial_is_explained_and_answered_as_without(confined: Start) -> None:
    """The call, the program and the rule; the caller sees the errno of the plain filter."""
    with confined(unshare, lambda: socket.socket(socket.AF_VSOCK), os.getpid) as child:
        first = child.answer()
        assert child.result() == errno.EPERM
        second = child.answer()
        assert child.result() == errno.EAFNOSUPPORT
        assert child.result() == 0

    assert first.syscall == "unshare(CLONE_NEWUSER|CLONE_NEWPID)"
    assert first.rule == "denied by default: unshare would create a namespace (EPERM)"
    assert os.readlink("/proc/self/exe") in first.program
    assert not first.fallback
    assert second.syscall.startswith("socket(AF_VSOCK")
    assert "rarely used" in second.rule


def test_a_call_that_does_not_exist_is_marked(confined: Start) -> None:
    """ENOSYS makes libc go another way, so it is hardly news."""
    with confined(lambda: syscall(435, 0, 0), lambda: syscall(1000)) as child:
        clone3 = child.answer()
        unknown = child.answer()
        assert [child.result(), child.result()] == [errno.ENOSYS] * 2

    assert clone3.fallback
    assert clone3.syscall == "clone3()"
    assert "memory" in clone3.rule
    assert unknown.syscall.startswith("syscall 1000")


def test_a_caller_that_was_killed_is_no_error(confined: Start) -> None:
    """Answering comes too late, and says so."""
    with confined(unshare) as child:
        assert seccomp_notify.wait_readable(child.listener, SECONDS)
        notification = seccomp_notify.receive(child.listener)
        assert not seccomp_notify.hung_up(child.listener)
        pidfd = os.pidfd_open(child.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        os.close(pidfd)

        assert not seccomp_notify.valid(child.listener, notification)
        assert not seccomp_notify.deny(child.listener, notification, errno.EPERM)


def test_the_listener_hangs_up_with_the_last_process(confined: Start) -> None:
    """Then there is nothing to wait for."""
    with confined(os.getpid) as child:
        assert child.result() == 0
        os.waitpid(child.pid, 0)
        assert not seccomp_notify.wait_readable(child.listener, SECONDS)
        assert seccomp_notify.hung_up(child.listener)


def test_a_program_s_name_can_not_write_to_the_terminal(confined: Start) -> None:
    """comm is what the program says of itself."""

    def named() -> None:
        name = struct.pack("16s", b"\x1b[31mred\nline")
        libc.prctl(15, name, 0, 0, 0)
        unshare()

    with confined(named) as child:
        explanation = child.answer()
        assert child.result() == errno.EPERM

    assert explanation.program.startswith("?[31mred?line (")

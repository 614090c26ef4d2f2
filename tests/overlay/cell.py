"""A mounted overlay for tests: a server process, and a process whose mount namespace has it.

The mount lives in a user and mount namespace of its own, so it goes when the holder goes, and the
test process reaches it as ``/proc/HOLDER/root/...``. `Cell.run` calls a function inside, as the
namespace's root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuse_overlay import server
from fuse_overlay.config import Config

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 16384 | 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: Any) -> None:
    if getattr(_libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def subids() -> tuple[int, int] | None:
    """The first subuid range of the user, None without one (or without newuidmap)."""
    if shutil.which("newuidmap") is None:
        return None
    names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    with contextlib.suppress(OSError):
        for line in Path("/etc/subuid").read_text().splitlines():
            name, first, count = line.split(":")
            if name in names:
                return int(first), int(count)
    return None


def _write_maps(pid: int, *, many: bool) -> None:
    """Map 0 to the user, and 1 and up to his subordinate ids if asked."""
    if os.getuid() == 0:
        count = 65536 if many else 1
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 {count}\n")
        return
    ids = subids() if many else None
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        if ids is None:
            if kind == "gid":
                Path(f"/proc/{pid}/setgroups").write_text("deny")
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {own} 1\n")
        else:
            words = [f"new{kind}map", str(pid), "0", str(own), "1", "1", str(ids[0]), str(ids[1])]
            subprocess.run(words, check=True)


class Cell:
    """One mount of one configuration."""

    def __init__(
        self,
        config: Config,
        merged: Path,
        *,
        many_ids: bool = False,
        nested: bool = False,
        allow_other: bool = False,
    ) -> None:
        self._config = config
        self._merged = merged
        self._many = many_ids
        self._nested = nested
        self._allow_other = allow_other
        self.server = 0
        self.holder = 0

    @property
    def path(self) -> Path:
        """The merged directory, as seen from outside."""
        return Path(f"/proc/{self.holder}/root{self._merged}")

    def mount(self) -> None:
        """Start the server and the holder; returns when requests are answered."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server = os.fork()
        if self.server == 0:
            ours.close()
            _exit_after(self._serve, theirs)
        theirs.close()
        with ours:
            ours.settimeout(20)
            assert ours.recv(100) == b"unshared", "no user namespace"
            _write_maps(self.server, many=self._many)
            ours.send(b"mapped")
            answer = ours.recv(1000)
        if not answer.startswith(b"holder "):
            raise RuntimeError(answer.decode() or "the server did not start")
        self.holder = int(answer.split()[1])

    def _serve(self, link: socket.socket) -> None:
        """The server's process: unshare, let a child mount, serve."""
        _call("unshare", CLONE_NEWUSER)
        link.send(b"unshared")
        link.recv(100)
        _become_root()
        here, there = socket.socketpair()
        holder = os.fork()
        if holder == 0:
            here.close()
            link.close()
            _exit_after(self._hold, there)
        there.close()
        if self._nested:
            here.recv(10)
            _write_identity(holder, self._many)
            here.send(b"mapped")
        _, fds, _, _ = socket.recv_fds(here, 10, 1)
        if not fds:
            link.send(b"the mount failed")
            return
        config = replace(self._config)
        server.serve(config, fds[0], ready=lambda: link.send(b"holder %d" % holder) and None)

    def _hold(self, link: socket.socket) -> None:
        """The holder's process: own the mount until the end."""
        _call("unshare", CLONE_NEWNS | (CLONE_NEWUSER if self._nested else 0))
        if self._nested:
            link.send(b"unshared")
            link.recv(10)
            _become_root()
        _call("mount", b"none", b"/", None, MS_REC_PRIVATE, None)
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = server.mount_options(fd)
        if not self._allow_other:
            options = options.replace("allow_other,", "")
        _call("mount", b"test", os.fsencode(self._merged), b"fuse", 0, options.encode())
        socket.send_fds(link, [b"x"], [fd])
        os.close(fd)
        link.close()
        signal.pause()

    def unmount(self) -> None:
        """End the holder, and with it the mount; the server then ends by itself."""
        if self.holder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.holder, signal.SIGKILL)
            self.holder = 0
        if self.server:
            _, status = os.waitpid(self.server, 0)
            self.server = 0
            code = os.waitstatus_to_exitcode(status)
            assert code == 0, f"the overlay server ended with {code}"

    def kill(self) -> None:
        """kill -9 of the server, then the end of the mount."""
        os.kill(self.server, signal.SIGKILL)
        os.waitpid(self.server, 0)
        self.server = 0
        self.unmount()

    def remount(self) -> None:
        """Unmount and mount again."""
        self.unmount()
        self.mount()

    def run(self, function: Callable[..., Any], *args: Any, uid: int = 0, gid: int = 0) -> Any:
        """Call *function* in the mount's namespaces; its result, or its exception."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _answer(writer, self.holder, uid, gid, function, args)
        os.close(writer)
        with open(reader, "rb") as pipe:
            data = pipe.read()
        os.waitpid(pid, 0)
        good, value = pickle.loads(data)
        if not good:
            raise value
        return value


def _answer(
    writer: int, holder: int, uid: int, gid: int, function: Callable[..., Any], args: Any
) -> None:
    try:
        for kind in ("user", "mnt"):
            fd = os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            _call("setns", fd, 0)
        os.umask(0o022)
        if os.access("/proc/self/setgroups", os.R_OK):
            with contextlib.suppress(PermissionError):
                os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        result = (True, function(*args))
    except BaseException as err:
        err.__traceback__ = None
        result = (False, err)
    with open(writer, "wb") as pipe:
        pipe.write(pickle.dumps(result))
    os._exit(0)


def _become_root() -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_identity(pid: int, many: bool) -> None:
    """The same ids one namespace deeper."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    text = "".join(f"{first} {first} {count}\n" for first, _, count in ranges)
    for kind in ("uid", "gid"):
        if kind == "gid" and not many:
            Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/{kind}_map").write_text(text)


def _exit_after(function: Callable[..., None], *args: Any) -> None:
    """The whole life of a forked process."""
    code = 1
    try:
        function(*args)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)

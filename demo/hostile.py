"""A program that wants out. Run by demo/run inside a sandbox, it tries what hostile code tries.

The argument is JSON: what demo/run prepared on the host to be stolen or reached. Each attempt
returns None when it succeeded, else what stopped it. The exit code is the number of successes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

HOST = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
libc = ctypes.CDLL(None, use_errno=True)

ATTEMPTS: list[tuple[str, str, str, Callable[[], str | None]]] = []


def attempt(title: str, what: str, wall: str) -> Callable[..., Callable[[], str | None]]:
    """Register an attempt: a heading, what it tries, and what is expected to stop it."""

    def register(function: Callable[[], str | None]) -> Callable[[], str | None]:
        ATTEMPTS.append((title, what, wall, function))
        return function

    return register


def system_call(number_x86_64: int, number_aarch64: int, *arguments: object) -> str | None:
    """Make a system call in a child; return the error's name or None."""
    number = {"x86_64": number_x86_64, "aarch64": number_aarch64}.get(platform.machine(), -1)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = libc.syscall(number, *arguments)
        os.write(writing, struct.pack("i", 0 if result >= 0 else ctypes.get_errno()))
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 4)
    os.close(reading)
    os.waitpid(pid, 0)
    if len(answer) < 4:
        return "killed"
    code = struct.unpack("i", answer)[0]
    return errno.errorcode.get(code, str(code)) if code else None


def read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# --- files ------------------------------------------------------------------------------------


@attempt("Your files", "read a secret in your home", "the home is not part of the image `host`")
def read_secret() -> str | None:
    read(HOST["secret"])
    return None


@attempt("Your files", "… through /proc/self/root and ..", "the same, by every name")
def read_secret_otherwise() -> str | None:
    failure = None
    for path in ("/proc/self/root" + HOST["secret"], "/../.." + HOST["secret"]):
        try:
            read(path)
            return None
        except OSError as err:
            failure = err.strerror
    return failure


@attempt("Your files", "list /root, /run, /home, ssh's keys", "shown empty")
def list_places() -> str | None:
    found = []
    for path in ("/root", "/run", "/etc/ssh", os.path.dirname(HOST["secret"])):
        try:
            found += os.listdir(path)
        except OSError:
            pass
    return None if found else "nothing there"


@attempt("Your files", "read /etc/shadow", "what all may read is shown, nothing else")
def read_shadow() -> str | None:
    read("/etc/shadow")
    return None


@attempt("Your files", "add a user to /etc/passwd", "it went to a layer of the container's own")
def write_passwd() -> str | None:
    # That the host's file is unchanged is looked at from outside.
    with open("/etc/passwd", "a") as file:
        file.write("evil:x:0:0::/:/bin/sh\n")
    return "a copy" if os.path.exists("/etc/passwd") else None


@attempt("Your files", "read the environment of who started this", "a clean environment")
def read_environment() -> str | None:
    leaked = [name for name in os.environ if name.startswith("DEMO_")]
    try:
        leaked += ["pid 1"] if "DEMO_" in read("/proc/1/environ") else []
    except OSError:
        pass
    return None if leaked else "not there"


@attempt("Your files", "find a descriptor that was left open", "all but the streams are closed")
def find_descriptors() -> str | None:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # that of the listing itself
        if int(number) > 2 and not target.startswith("/proc/"):
            found.append(target)
    return None if found else "none"


# --- processes --------------------------------------------------------------------------------


@attempt("Other processes", "see and kill processes of the host", "a pid namespace of its own")
def see_processes() -> str | None:
    if os.path.exists(f"/proc/{HOST['pid']}/cmdline") and HOST["pid"] > 50:
        return None
    os.kill(HOST["pid"] if HOST["pid"] > 50 else 99999, 0)
    return None


@attempt("Other processes", "become root by sudo, su, mount", "no_new_privs, nosuid mounts")
def set_uid() -> str | None:
    # Each program that is set-uid gets this far and no further (capabilities(7), prctl(2)).
    program = "grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status"
    found = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True).stdout
    fields = dict(line.split(":\t") for line in found.splitlines())
    if fields["NoNewPrivs"] != "1" or int(fields["CapBnd"], 16):
        return None
    return "nothing to be gained"


@attempt("Other processes", "trace another process", "the seccomp filter")
def trace() -> str | None:
    return system_call(101, 117, 16, 1, 0, 0)


@attempt("Other processes", "type into your terminal (TIOCSTI)", "the seccomp filter")
def push_input() -> str | None:
    _, slave = os.openpty()
    fcntl.ioctl(slave, 0x5412, b"x")
    return None


# --- the kernel -------------------------------------------------------------------------------


@attempt("The kernel", "mount a file system", "the seccomp filter")
def mount() -> str | None:
    return system_call(165, 40, b"none", b"/tmp", b"tmpfs", 0, 0)


@attempt("The kernel", "make a user namespace", "the seccomp filter")
def unshare() -> str | None:
    return system_call(272, 97, 0x10000000)


@attempt("The kernel", "load a BPF program", "the seccomp filter")
def load_bpf() -> str | None:
    return system_call(321, 280, 0, 0, 0)


@attempt("The kernel", "set up io_uring", "the seccomp filter")
def io_uring() -> str | None:
    return system_call(425, 425, 1, ctypes.create_string_buffer(256))


@attempt("The kernel", "look through the kernel's keys", "the seccomp filter")
def keys() -> str | None:
    return system_call(250, 219, 0, -3, 1)


@attempt("The kernel", "talk to the hypervisor (AF_VSOCK)", "the seccomp filter")
def vsock() -> str | None:
    socket.socket(40, socket.SOCK_STREAM).close()
    return None


@attempt("The kernel", "a command for every crash (core_pattern)", "/proc/sys is read-only")
def core_pattern() -> str | None:
    write("/proc/sys/kernel/core_pattern", "|/tmp/evil")
    return None


@attempt("The kernel", "sysrq, kernel log, kernel memory", "masked, or not in /dev")
def kernel_files() -> str | None:
    for path in ("/proc/sysrq-trigger", "/dev/kmsg", "/dev/mem", "/proc/kcore"):
        try:
            os.close(os.open(path, os.O_WRONLY))
            return None
        except OSError:
            continue
    return "none to be had"


@attempt("The kernel", "make a device node of the disk", "no capability, nodev mounts")
def make_device() -> str | None:
    os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0))
    return None


@attempt("The kernel", "leave the cgroup", "mounted read-only, if at all")
def leave_cgroup() -> str | None:
    write("/sys/fs/cgroup/cgroup.procs", "0")
    return None


# --- the network ------------------------------------------------------------------------------


def reach(family: int, address: str | tuple[str, int]) -> str | None:
    with socket.socket(family) as connection:
        connection.settimeout(3)
        connection.connect(address)
        return None if connection.recv(10) else "no answer"


@attempt("The network", "a server on the host's 127.0.0.1", "a network namespace of its own")
def loopback() -> str | None:
    return reach(socket.AF_INET, ("127.0.0.1", HOST["port"]))


@attempt("The network", "an abstract socket of the host", "a network namespace of its own")
def abstract() -> str | None:
    return reach(socket.AF_UNIX, "\0" + HOST["abstract"])


@attempt("The network", "the world (1.1.1.1)", "no network in this profile")
def world() -> str | None:
    return reach(socket.AF_INET, ("1.1.1.1", 53))


# --- room -------------------------------------------------------------------------------------


def fill(place: str, limit: int) -> str | None:
    written = 0
    try:
        with open(f"{place}/filler", "wb", 0) as file:
            while written < limit:
                written += file.write(b"x" * (1 << 20))
        return None
    except OSError as err:
        return f"{errno.errorcode[err.errno or 0]} after {written >> 20} MiB"
    finally:
        os.unlink(f"{place}/filler")


@attempt("Room", "fill the disk", "the overlay's quota")
def fill_disk() -> str | None:
    return fill("/opt", 1 << 30)


@attempt("Room", "fill /dev/shm and /tmp", "their size")
def fill_memory() -> str | None:
    both = [fill(place, 1 << 30) for place in ("/dev/shm", "/tmp")]
    return None if None in both else " and ".join(filter(None, both))


@attempt("Room", "use up the inodes", "the overlay's quota")
def use_inodes() -> str | None:
    os.mkdir("/opt/many")
    for count in range(100_000):
        try:
            os.close(os.open(f"/opt/many/{count}", os.O_CREAT))
        except OSError as err:
            return f"{errno.errorcode[err.errno or 0]} after {count} files"
    return None


def main() -> int:
    heading = ""
    succeeded = 0
    for title, what, wall, function in ATTEMPTS:
        if title != heading:
            heading = title
            print(f"\n{title}")
        try:
            stopped = function()
        except OSError as err:
            stopped = errno.errorcode.get(err.errno or 0, str(err))
        succeeded += stopped is None
        verdict = "held    " if stopped is not None else "NOT HELD"
        print(f"  {verdict}  {what:<44} {stopped or 'succeeded'} ({wall})", flush=True)
    return succeeded


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.exit(main())

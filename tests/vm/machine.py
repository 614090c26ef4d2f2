"""One boot of a test machine: this host's root file system under Debian's stock kernel.

QEMU emulates (TCG), virtiofsd shares the host's root read-only, writes go to a throw-away disk,
and the whole cgroup v2 tree is there with every controller delegated to an unprivileged user.
Needs root on the host, for virtiofsd to read all files.
"""

from __future__ import annotations

import os
import resource
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.vm import initramfs
from tests.vm.kernel import Kernel, cache_directory, fetch

# Debian builds all of these in; named here so that the order is ours on every release.
LSM = "landlock,lockdown,yama,integrity,apparmor,bpf"
VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")  # Debian 13, Debian 12


class NoAnswer(Exception):
    """The machine ended, hung or ran out of time without the job's exit status."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What to boot. *memory* and *disk* in MiB, *timeout* in seconds for the whole boot."""

    user: str
    memory: int = 1536
    disk: int = 8192
    cpus: int = 2
    timeout: float = 300
    accel: str = "tcg,thread=multi"


@contextmanager
def job_directory() -> Iterator[Path]:
    """A directory that becomes ``/job`` in the guest, writable by its user."""
    # /var/tmp, as /tmp may be a tmpfs and the disk grows.
    with tempfile.TemporaryDirectory(prefix="sbx-vm-", dir="/var/tmp") as scratch:
        os.chmod(scratch, 0o711)
        job = Path(scratch, "job")
        job.mkdir()
        os.chmod(job, 0o1777)
        yield job


def run(
    machine: Machine, command: str, job: Path, *, out: BinaryIO, err: BinaryIO, console: BinaryIO
) -> int:
    """Run *command* (bash) in the guest as its user, copying its output as it comes.

    Returns its exit status. Raises NoAnswer; *console* then gets the guest kernel's last words.
    """
    # virtiofsd holds a descriptor for every file the guest has seen; it inherits our limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kernel = fetch(cache_directory())
    scratch = job.parent
    _write_job(machine, kernel, command, job)
    with ExitStack() as stack:
        shares = {
            "host": _share_root(scratch, stack),
            "job": _share("job", job, "none", scratch, stack),
        }
        qemu = _boot(machine, kernel, shares, scratch, stack)
        outputs = [
            (stack.enter_context((job / name).open("rb")), to)
            for name, to in (("out", out), ("err", err))
        ]
        in_time = _follow(qemu, outputs, machine.timeout)
    status = job / "status"
    if in_time and status.exists():
        return int(status.read_text())
    for log in (scratch / name for name in ("console", "qemu.log", "host.log", "job.log")):
        console.write(log.read_bytes() if log.exists() else b"")
    raise NoAnswer("timed out" if not in_time else "the machine ended without an exit status")


def _write_job(machine: Machine, kernel: Kernel, command: str, job: Path) -> None:
    settings = {
        "USER_NAME": machine.user,
        "MODULES_ROOT": str(kernel.root),
        "RELEASE": kernel.release,
    }
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in settings.items()]
    (job / "settings").write_text("".join(lines))
    (job / "command").write_text(command + "\n")
    shutil.copy(Path(__file__).with_name("guest") / "start", job / "start")
    for name in ("out", "err"):
        (job / name).touch()


def _share_root(scratch: Path, stack: ExitStack) -> str:
    """Share the host's root; read-only by a bind mount, whatever the guest asks for."""
    view = scratch / "view"
    view.mkdir()
    # In a mount namespace of virtiofsd's own: the bind mount is gone with the process.
    steps = f"mount --rbind / {view} && mount -o remount,bind,ro {view}"
    wrapper = ["unshare", "--mount", "sh", "-c", f'{steps} && exec "$@"', "sh"]
    return _share("host", view, "always", scratch, stack, wrapper)


def _share(
    tag: str, source: Path, cache: str, scratch: Path, stack: ExitStack, wrapper: Sequence[str] = ()
) -> str:
    """Start virtiofsd for *source*; returns the socket QEMU connects to."""
    address = str(scratch / f"{tag}.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(1)
        options = [f"source={source}", f"cache={cache}", "xattr", "sandbox=chroot"]
        command = [*wrapper, _virtiofsd(), f"--fd={listener.fileno()}"]
        for option in options:
            command += ["-o", option]
        log = stack.enter_context((scratch / f"{tag}.log").open("wb"))
        _start(command, stack, log, pass_fds=(listener.fileno(),))
    return address


def _virtiofsd() -> str:
    for path in VIRTIOFSD:
        if os.path.exists(path):
            return path
    raise SystemExit("virtiofsd: not installed (Debian 12: qemu-system-common, 13: virtiofsd)")


def _start(
    command: Sequence[str], stack: ExitStack, log: BinaryIO, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _boot(
    machine: Machine, kernel: Kernel, shares: Mapping[str, str], scratch: Path, stack: ExitStack
) -> subprocess.Popen[bytes]:
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", machine.accel, "-cpu", "max"),
        *("-m", str(machine.memory), "-smp", str(machine.cpus)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-serial", f"file:{scratch / 'console'}"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs.build(kernel, scratch))),
        *("-append", f"console=ttyS0 quiet panic=-1 mitigations=off lsm={LSM}"),
        # Shared memory: virtiofsd reads and writes the guest's buffers in place.
        *("-object", f"memory-backend-memfd,id=memory,size={machine.memory}M,share=on"),
        *("-numa", "node,memdev=memory"),
        # Behind QEMU's own address translation, as pasta wants an interface with a route.
        *("-nic", "user,model=virtio-net-pci"),
        *("-drive", f"file={_disk(machine, scratch)},format=raw,if=virtio,cache=unsafe"),
    ]
    for tag, address in shares.items():
        command += ["-chardev", f"socket,id={tag},path={address}"]
        command += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
    log = stack.enter_context((scratch / "qemu.log").open("wb"))
    return _start(command, stack, log)


def _disk(machine: Machine, scratch: Path) -> Path:
    """A sparse ext4 disk for all that the guest writes; nobody needs its journal."""
    disk = scratch / "disk"
    with disk.open("wb") as file:
        file.truncate(machine.disk << 20)
    command = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1"]
    subprocess.run([*command, str(disk)], check=True, stdin=subprocess.DEVNULL)
    return disk


def _follow(
    process: subprocess.Popen[bytes], outputs: Sequence[tuple[BinaryIO, BinaryIO]], timeout: float
) -> bool:
    """Copy what the guest writes until it powers off; False when the time is over first."""
    deadline = time.monotonic() + timeout
    poll = select.poll()
    exited = os.pidfd_open(process.pid)
    poll.register(exited, select.POLLIN)
    try:
        while time.monotonic() < deadline:
            # A growing file has no event to wait for but inotify's; ten looks a second will do.
            done = bool(poll.poll(100))
            for source, to in outputs:
                shutil.copyfileobj(source, to)
                to.flush()
            if done:
                return True
        return False
    finally:
        os.close(exited)

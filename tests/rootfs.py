"""Root file systems for tests, as plain tars."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

DEBIAN = Path("/var/cache/sbx-test/debian.tar")  # made by setup/rootfs

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/os-release": 'NAME="busybox"\n',
}
_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var")


def busybox() -> str | None:
    """The static busybox of this machine (package busybox-static), if it is one."""
    found = shutil.which("busybox", path="/usr/bin:/bin")
    if found is None:
        return None
    linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)
    return None if linked.returncode == 0 else found


def write_busybox_tar(program: str, path: Path) -> None:
    """A root file system of 2 MB: busybox, all its names, root and nobody."""
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    with tarfile.open(path, "w") as tar:
        for name in _DIRECTORIES:
            tar.addfile(_member(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
        tar.add(program, "bin/busybox", filter=_owned_by_root)
        for name in names.split():
            link = _member(f"bin/{name}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            if name != "busybox":
                tar.addfile(link)
        for name, text in _FILES.items():
            member = _member(name, tarfile.REGTYPE, 0o644)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = mode
    return member


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755
    return member

"""Debian's stock cloud kernel, downloaded and unpacked into a cache, never installed.

The cloud flavour is small (virtio, file systems, no hardware drivers) and boots in seconds under
plain emulation. Needs apt's package lists, dpkg-deb and kmod.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

METAPACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package; *root* holds ``boot/`` and ``lib/modules/``."""

    root: Path
    release: str

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    def modules(self, *names: str) -> tuple[Path, ...]:
        """The files of *names* and of all they depend on, in the order of loading."""
        found: dict[Path, None] = {}
        for name in names:
            for line in self._show_depends(name).splitlines():
                verb, _, rest = line.partition(" ")
                if verb == "insmod":  # the other verb is "builtin"
                    found[Path(rest.split()[0])] = None
        return tuple(found)

    def _show_depends(self, name: str) -> str:
        command = ["modprobe", "-d", str(self.root), "-S", self.release, "--show-depends", name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cache_directory() -> Path:
    """Where kernels are kept: one place for the machine when root, else the user's cache."""
    if chosen := os.environ.get("SBX_VM_CACHE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/cache/sbx-test/vm")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sbx-test/vm")


def fetch(cache: Path) -> Kernel:
    """The kernel in *cache*, downloaded first when there is none for this distribution release."""
    root = cache / platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as scratch:
            unpacked = _unpack(_download(Path(scratch)), Path(scratch, "kernel"))
            _publish(unpacked, root)
    return Kernel(root, next((root / "lib/modules").iterdir()).name)


def _download(directory: Path) -> Path:
    os.chmod(directory, 0o755)  # apt downloads as its own user, _apt
    package = _image_package()
    # The stock download step runs as _apt, which may not write here; root may say so itself.
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL)
    return next(directory.glob("linux-image-*.deb"))


def _image_package() -> str:
    command = ["apt-cache", "depends", METAPACKAGE]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        relation, _, package = line.strip().partition(": ")
        if relation == "Depends" and package.startswith("linux-image-"):
            return package
    raise SystemExit(f"{METAPACKAGE}: no such package in apt's lists (apt-get update?)")


def _unpack(package: Path, root: Path) -> Path:
    subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    if not (root / "lib").exists():  # since trixie modules lie in /usr/lib
        (root / "lib").symlink_to("usr/lib")
    release = next((root / "lib/modules").iterdir()).name
    subprocess.run(["depmod", "-b", root, release], check=True)
    return root


def _publish(unpacked: Path, root: Path) -> None:
    """Rename into place; whoever comes second keeps the first one's copy."""
    try:
        unpacked.rename(root)
    except OSError:
        if not root.exists():
            raise
        shutil.rmtree(unpacked)

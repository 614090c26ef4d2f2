"""The initramfs of the test machine: a static busybox, a few modules, ``guest/init``."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

from tests.vm.kernel import Kernel

# What it takes to reach the root file system; all else is loaded from the host's share later.
# crc32c_generic is a soft dependency of ext4, which --show-depends does not print.
MODULES = ("virtio_pci", "virtiofs", "virtio_blk", "crc32c_generic", "ext4", "overlay")


def build(kernel: Kernel, scratch: Path) -> Path:
    """Write the archive below *scratch*. Not compressed: unpacking is slow under emulation."""
    tree = scratch / "initramfs"
    for name in ("bin", "modules", "proc", "sys", "dev", "host", "disk", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy(_busybox(), tree / "bin/busybox")
    shutil.copy(Path(__file__).with_name("guest") / "init", tree / "init")
    (tree / "init").chmod(0o755)
    for number, module in enumerate(kernel.modules(*MODULES)):
        # The number keeps the order of loading in the name's order.
        (tree / "modules" / f"{number:02}-{module.stem.split('.')[0]}.ko").write_bytes(
            _read(module)
        )
    return _archive(tree, scratch / "initramfs.cpio")


def _busybox() -> str:
    found = shutil.which("busybox", path="/bin:/usr/bin")
    if found is None:
        raise SystemExit("busybox: not installed (apt-get install busybox-static)")
    return found


def _read(module: Path) -> bytes:
    content = module.read_bytes()
    return lzma.decompress(content) if module.suffix == ".xz" else content


def _archive(tree: Path, archive: Path) -> Path:
    names = "\0".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with archive.open("wb") as out:
        command = ["cpio", "--null", "--create", "--format=newc", "--quiet"]
        subprocess.run(command, cwd=tree, input=names.encode(), stdout=out, check=True)
    return archive

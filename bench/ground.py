"""Where the benchmarks run: a directory of its own, one small image, and each peer's commands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.pairs import Contender

IMAGE = "bench"
BUSYBOX = "/bin/busybox"
TIMEOUT = 120.0  # seconds for one command


@dataclass(frozen=True, slots=True)
class Ground:
    """A directory with `rootfs`, `rootfs.tar`, `bundle`, and the environment for sbx."""

    path: Path
    environ: dict[str, str]
    notes: list[str] = field(default_factory=list)
    podman_flags: list[str] = field(default_factory=list)  # what this machine needs
    available: list[str] = field(default_factory=list)  # peers that run a container here

    def sbx(self, *arguments: str) -> list[str]:
        """Return the command line of sbx: the installed command, else the module."""
        installed = Path(sys.executable).with_name("sbx")
        command = (
            [str(installed)] if installed.exists() else [sys.executable, "-m", "sandbox.client"]
        )
        return [*command, *arguments]

    def podman(self, command: str, *arguments: str) -> list[str]:
        storage = ["--root", str(self.path / "podman"), "--runroot", str(self.path / "podman-run")]
        flags = self.podman_flags if command == "run" else []
        return ["podman", "--log-level=error", *storage, command, *flags, *arguments]

    def crun(self, name: str) -> list[str]:
        state = ["--root", str(self.path / "crun"), "--cgroup-manager=disabled"]
        return ["crun", *state, "run", "--bundle", str(self.path / "bundle"), name]

    def bwrap(self, *command: str) -> list[str]:
        root = ["--bind", str(self.path / "rootfs"), "/", "--proc", "/proc", "--dev", "/dev"]
        return ["bwrap", "--unshare-all", "--die-with-parent", *root, *command]

    def run(self, argv: Sequence[str], **environ: str) -> str:
        """Run to the end and return standard output. Raises CalledProcessError."""
        done = subprocess.run(
            argv,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.returncode}\n{done.stderr.strip()}")
        return done.stdout

    def contender(self, name: str, argv: Sequence[str], **environ: str) -> Contender:
        """Return *argv*, timed from the fork to the end."""

        def once() -> None:
            self.run(argv, **environ)

        return Contender(name, once)


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Make the directory and find out which peers work here; clean all up."""
    # A short path: sockets lie below it (108 bytes, unix(7)).
    path = Path(tempfile.mkdtemp(prefix="sbx-bench-", dir="/tmp"))
    made = Ground(path, _environ(path, os.environ))
    try:
        _make_rootfs(path)
        _prepare_sbx(made)
        _prepare_podman(made)
        _prepare_crun(made)
        _prepare_bwrap(made)
        yield made
    finally:
        _clean(made)


def _environ(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    made = {f"XDG_{name}_HOME": str(path / name.lower()) for name in ("DATA", "CONFIG", "CACHE")}
    runtime = path / "run"
    runtime.mkdir(mode=0o700)
    return {**environ, **made, "XDG_RUNTIME_DIR": str(runtime)}


def _make_rootfs(path: Path) -> None:
    """A root of one static busybox: starting containers is what counts, not what runs in them."""
    root = path / "rootfs"
    for directory in ("bin", "proc", "dev", "sys", "tmp", "etc", "root"):
        (root / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in ("sh", "true", "sleep", "cat", "echo"):
        (root / "bin" / applet).symlink_to("busybox")
    with tarfile.open(path / "rootfs.tar", "w") as tar:
        tar.add(root, ".")


def _prepare_sbx(made: Ground) -> None:
    made.run(made.sbx("import", str(made.path / "rootfs.tar"), IMAGE))
    made.run(made.sbx("run", "--rm", IMAGE, "true"))
    made.available.append("sbx")


def _prepare_podman(made: Ground) -> None:
    if not _installed(made, "podman"):
        return
    made.run(made.podman("import", str(made.path / "rootfs.tar"), f"{IMAGE}:latest"))
    # Where it may not make cgroups, podman is taken without them.
    for flags in ([], ["--cgroups=disabled"]):
        made.podman_flags[:] = flags
        if _try(made, "podman", made.podman("run", "--rm", IMAGE, "true")):
            driver = made.run(made.podman("info", "--format", "{{.Store.GraphDriverName}}")).strip()
            made.notes.append(f"podman: storage driver {driver} {' '.join(flags)}".rstrip())
            return


def _prepare_crun(made: Ground) -> None:
    if not _installed(made, "crun"):
        return
    bundle = made.path / "bundle"
    bundle.mkdir()
    subprocess.run(["crun", "spec", "--rootless"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["true"], "terminal": False}
    config["root"] = {"path": str(made.path / "rootfs"), "readonly": False}
    (bundle / "config.json").write_text(json.dumps(config))
    _try(made, "crun", made.crun("try"))


def _prepare_bwrap(made: Ground) -> None:
    if _installed(made, "bwrap"):
        _try(made, "bwrap", made.bwrap("true"))


def _installed(made: Ground, program: str) -> bool:
    found = shutil.which(program) is not None
    if not found:
        made.notes.append(f"{program} is not installed")
    return found


def _try(made: Ground, name: str, argv: Sequence[str]) -> bool:
    try:
        made.run(argv)
    except RuntimeError as err:
        made.notes.append(f"{name} runs no container here: {str(err).splitlines()[-1]}")
        return False
    made.available.append(name)
    return True


def _clean(made: Ground) -> None:
    with contextlib.suppress(Exception):
        made.run(made.sbx("system", "reset", "--force"))
    if "podman" in made.available:
        with contextlib.suppress(Exception):
            made.run(made.podman("rm", "--all", "--force", "--time", "0"))
        # Files of subordinate ids: only podman's own namespace may remove them.
        subprocess.run(
            made.podman("unshare", "rm", "-rf", str(made.path / "podman")),
            env=made.environ,
            capture_output=True,
        )
        # Ends the process that holds podman's namespaces.
        subprocess.run(made.podman("system", "migrate"), env=made.environ, capture_output=True)
    shutil.rmtree(made.path, ignore_errors=True)

"""This machine's platform in Go's words, and which manifest of an index fits a platform."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sandbox.errors import InvalidSpec, NotFound
from sandbox.image.descriptor import Descriptor, Platform

# uname(2) machine → GOARCH and variant (OCI image-index.md, "Platform Variants").
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def own_platform() -> Platform:
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))


def parse_platform_option(text: str) -> Platform:
    """Return what `--platform os/arch[/variant]` (or `arch`) says. Raises InvalidSpec."""
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise InvalidSpec(f"invalid platform {text!r}", hint="write linux/arm64 or linux/arm/v7")
    if len(parts) == 1:
        parts = ["linux", *parts]
    architecture, variant = _MACHINES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)


def choose(manifests: Iterable[Descriptor], wanted: Platform) -> Descriptor:
    """Return the manifest for *wanted*: the exact variant, else any. Raises NotFound."""
    candidates = list(manifests)
    fitting = [
        m
        for m in candidates
        if m.platform
        and (m.platform.os, m.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    exact = [m for m in fitting if m.platform and m.platform.variant == wanted.variant]
    if exact or fitting:
        return (exact or fitting)[0]
    offered = sorted({str(m.platform) for m in candidates if m.platform})
    if not offered and len(candidates) == 1:
        return candidates[0]
    raise NotFound(
        f"the image has no manifest for {wanted}",
        detail="it has: " + ", ".join(offered) if offered else None,
        hint="choose one with --platform",
    )

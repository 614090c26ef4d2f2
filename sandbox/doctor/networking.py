"""Programs and devices that connect a container to the network."""

from __future__ import annotations

import os
import shutil

from sandbox.doctor.check import Check, Host

_MATTERS = "--network private, the default of most profiles, and -p need it"


def check_program(host: Host) -> Check:
    """Look for pasta, else slirp4netns."""
    pasta, slirp = shutil.which("pasta"), shutil.which("slirp4netns")
    install = host.distribution.install("passt")
    if pasta:
        return Check("network program", "ok", pasta)
    if slirp:
        matters = "pasta is faster and shows the host's addresses"
        return Check("network program", "ok", f"{slirp}; no pasta", matters, install)
    return Check("network program", "warn", "neither pasta nor slirp4netns", _MATTERS, install)


def check_tun(host: Host) -> Check:
    """Look at /dev/net/tun."""
    path = "/dev/net/tun"
    if not os.path.exists(path):
        return Check("tun device", "warn", f"no {path}", _MATTERS, "sudo modprobe tun")
    if not os.access(path, os.R_OK | os.W_OK):
        found = f"{path} may not be opened by you"
        return Check("tun device", "warn", found, _MATTERS, f"sudo chmod 666 {path}")
    return Check("tun device", "ok", f"{path} opens")

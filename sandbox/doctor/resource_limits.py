"""Delegated cgroups: without them memory and processor time can't be limited."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sandbox.doctor.check import Check, Host
from sandbox.linux import process_count
from sandbox.linux.cgroups_delegation import Delegation, discover
from sandbox.linux.cgroups_systemd import NoScope, reachable

NAME = "cgroup delegation"
_MATTERS = "--memory, --cpus and --cpuset-cpus are refused without it"
_NEEDED_FOR = {
    "memory": "--memory",
    "pids": "--pids-limit",
    "cpu": "--cpus",
    "cpuset": "--cpuset-cpus",
}
_DROP_IN = "/etc/systemd/system/user@.service.d/delegate.conf"


def check(host: Host) -> Check:
    """Look for a delegated subtree, else for a systemd that would give a scope."""
    direct = discover(enable=False)
    if direct is not None and direct.controllers:
        return _judge(direct, f"{direct.path} is delegated", _delegate_more(direct.path))
    try:
        version, manager = reachable(host.environ)
    except NoScope as err:
        return _none(host, str(err))
    return _judge(
        Delegation(manager, frozenset(_controllers_of(f"/sys/fs/cgroup{manager}"))),
        f"your systemd ({version}) gives a scope to each container",
        f"sudo mkdir -p {os.path.dirname(_DROP_IN)}\n"
        f"printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee {_DROP_IN}\n"
        "sudo systemctl daemon-reload\n"
        f"sudo systemctl restart user@{host.uid}.service   # ends your sessions",
    )


def _judge(delegation: Delegation, found: str, mend: str) -> Check:
    absent = [name for name in _NEEDED_FOR if name not in delegation.controllers]
    if not absent:
        return Check(NAME, "ok", f"{found}, with {_listed(delegation.controllers)}")
    refused = ", ".join(_NEEDED_FOR[name] for name in absent if not _held_otherwise(name))
    matters = f"refused: {refused}" if refused else "held by RLIMIT_NPROC instead: --pids-limit"
    return Check(NAME, "warn", f"{found}, without {_listed(absent)}", matters, mend)


def _held_otherwise(controller: str) -> bool:
    return controller == "pids" and process_count.POSSIBLE


def _listed(names: Iterable[str]) -> str:
    known = [*_NEEDED_FOR, "io"]
    return ", ".join(sorted((name for name in names if name in known), key=known.index))


def _delegate_more(path: str) -> str:
    """The controllers come from above: every cgroup on the way has to pass them on."""
    return (
        f"as root, from the top down to {path}:\n"
        "echo '+cpu +cpuset +io +memory +pids' > …/cgroup.subtree_control"
    )


def _none(host: Host, reason: str) -> Check:
    if not _is_cgroup2("/sys/fs/cgroup"):
        found = "this machine uses cgroup v1, which can't be delegated to users safely"
        mend = host.distribution.boot_with("systemd.unified_cgroup_hierarchy=1")
        return Check(NAME, "warn", found, _MATTERS, mend)
    if os.path.isdir("/run/systemd/system"):
        found = f"no systemd of yours answers: {reason.splitlines()[-1]}"
        mend = (
            f"{host.distribution.install('dbus-user-session')}\n"
            f"sudo loginctl enable-linger {host.user}\n"
            f"export XDG_RUNTIME_DIR=/run/user/{host.uid}"
        )
        return Check(NAME, "warn", found, _MATTERS, mend)
    return Check(NAME, "warn", "none, and no systemd to ask", _MATTERS, _by_hand(host))


def _by_hand(host: Host) -> str:
    """What systemd does for its users, for machines without it."""
    top, own = "/sys/fs/cgroup", f"/sys/fs/cgroup/{host.user}"
    names = "procs,threads,subtree_control"
    return (
        f"sudo sh -c 'echo \"+cpu +cpuset +io +memory +pids\" > {top}/cgroup.subtree_control'\n"
        f"sudo mkdir -p {own}/shell\n"
        f"sudo bash -c 'chown {host.user} {own} {own}/shell {own}{{,/shell}}/cgroup.{{{names}}}'\n"
        f'sudo sh -c "echo $$ > {own}/shell/cgroup.procs"'
    )


def _controllers_of(path: str) -> list[str]:
    try:
        with open(f"{path}/cgroup.controllers") as file:
            return file.read().split()
    except OSError:
        return []


def _is_cgroup2(path: str) -> bool:
    return os.path.exists(f"{path}/cgroup.controllers")

"""The processes of a pid namespace, as the host's /proc shows them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator

from sandbox.linux.processes import ProcessRef

# How often, and after how many seconds each, it is looked for processes that run still.
_ROUNDS = 400
_MOMENT = 0.005


def members(init: int) -> list[int]:
    """Return the processes in the pid namespace of its pid 1 *init*, and those below it.

    The caller may look at the namespace (root of the user namespace above does). What `exec` put
    there has its parent outside; what is closed to everybody (a pid 1 of ours) is found as a child.
    """
    try:
        namespace = os.stat(f"/proc/{init}/ns/pid").st_ino
    except OSError:
        namespace = None
    parents = dict(_parents())
    found = {pid for pid in parents if pid == init or (namespace and _is_in(pid, namespace))}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return sorted(found)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := stat_fields(int(entry))):
            yield int(entry), int(fields[1])


def _is_in(pid: int, namespace: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == namespace
    except OSError:
        return False


def stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from its third field on (the state); nothing for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode().split()
    except OSError:
        return []


def stop(init: int) -> frozenset[ProcessRef] | None:
    """Stop all processes (SIGSTOP), as long as it takes that none is left which runs.

    Return those that were stopped before. None when there was no end of new ones; they go on then.
    """
    before = frozenset(_refs(pid for pid in members(init) if _state(pid) in "Tt"))
    told: set[ProcessRef] = set()
    for _ in range(_ROUNDS):
        moving = frozenset(_refs(pid for pid in members(init) if _state(pid) not in "TtZXx"))
        # One that the kernel holds stops before it executes another instruction of its own.
        if all(reference in told and _state(reference.pid) == "D" for reference in moving):
            return before
        for reference in moving - told:
            _send(reference, signal.SIGSTOP)
        told |= moving
        time.sleep(_MOMENT)
    resume(init, before)
    return None


def resume(init: int, stopped_before: frozenset[ProcessRef]) -> None:
    """Let all go on (SIGCONT) but those that were stopped before `stop`."""
    for reference in frozenset(_refs(members(init))) - stopped_before:
        _send(reference, signal.SIGCONT)


def _refs(pids: Iterable[int]) -> Iterator[ProcessRef]:
    for pid in pids:
        try:
            yield ProcessRef.of(pid)
        except ProcessLookupError:
            continue


def _state(pid: int) -> str:
    fields = stat_fields(pid)
    return fields[0] if fields else "X"


def _send(reference: ProcessRef, number: int) -> None:
    pidfd = reference.open()
    if pidfd is None:
        return
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)

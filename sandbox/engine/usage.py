"""What a container uses now: from its cgroup where that counts it, else summed up over /proc."""

from __future__ import annotations

import os
from typing import Any

from sandbox.linux import members
from sandbox.linux.cgroups import Cgroup, Stats


def usage(init: int, cgroup: Cgroup | None, *, own_network: bool) -> dict[str, Any]:
    """Return bytes, microseconds and counts; None for what nobody counts.

    memory, memory_limit, cpu_usec, pids, net_received, net_sent, block_read, block_written.
    Without a cgroup's count, memory is the resident memory that processes do not share with files,
    and cpu_usec what the living and the reaped ones used.
    """
    stats = cgroup.stats() if cgroup is not None else None
    counted = _from_cgroup(stats, cgroup) if stats is not None else {}
    found = _from_processes(members.members(init)) | counted
    received, sent = _network(init) if own_network else (None, None)
    return {"memory_limit": None, **found, "net_received": received, "net_sent": sent}


def _from_cgroup(stats: Stats, cgroup: Cgroup | None) -> dict[str, Any]:
    found = {
        "memory": stats.memory_current,
        "cpu_usec": stats.cpu_usec,
        "pids": stats.pids_current,
        "block_read": stats.io_read,
        "block_written": stats.io_written,
    }
    try:
        text = cgroup.read("memory.max").strip() if cgroup is not None else "max"
        found["memory_limit"] = int(text) if text.isdecimal() else None
    except OSError:
        pass
    return {name: value for name, value in found.items() if value is not None}


def _from_processes(pids: list[int]) -> dict[str, Any]:
    ticks = os.sysconf("SC_CLK_TCK")
    memory = threads = used = read = written = 0
    for pid in pids:
        fields = members.stat_fields(pid)
        if not fields:
            continue
        # proc(5), /proc/PID/stat: utime, stime, cutime, cstime are 14 to 17, num_threads is 20.
        used += sum(int(fields[index]) for index in range(11, 15))
        threads += int(fields[17])
        status = _key_values(f"/proc/{pid}/status")
        memory += sum(status.get(name, 0) for name in ("RssAnon", "RssShmem")) << 10
        io = _key_values(f"/proc/{pid}/io")
        read += io.get("read_bytes", 0)
        written += io.get("write_bytes", 0)
    return {
        "memory": memory,
        "cpu_usec": used * 1_000_000 // ticks,
        "pids": threads,
        "block_read": read,
        "block_written": written,
    }


def _key_values(path: str) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        with open(path, errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                words = value.split()
                if words and words[0].isdecimal():
                    found[name] = int(words[0])
    except OSError:
        pass
    return found


def _network(init: int) -> tuple[int | None, int | None]:
    """Return the bytes that came in and went out by all interfaces but the loopback."""
    received = sent = 0
    try:
        with open(f"/proc/{init}/net/dev") as file:
            for line in file.readlines()[2:]:
                name, _, counters = line.partition(":")
                fields = counters.split()
                if name.strip() != "lo":
                    received += int(fields[0])
                    sent += int(fields[8])
    except (OSError, ValueError, IndexError):
        return None, None
    return received, sent

"""The cache of compiled filters: used when sound, ignored when not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.errors import InvalidSpec, NotFound
from sandbox.linux.seccomp import Filter, compile_filter, load_profile
from sandbox.linux.seccomp_cache import entry_path, load, store

KEY, PROGRAM = b"key", b"program!"
PROFILE = b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [%s]}'
READ = PROFILE % b'{"names": ["read"], "action": "SCMP_ACT_ALLOW"}'


def compiled(
    cache: Path, profile: bytes = READ, *, capabilities: str = "", **flags: bool
) -> Filter:
    return compile_filter(
        profile, capabilities=frozenset(capabilities.split()), cache=cache, **flags
    )


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    """A key gives its program and no other key does."""
    store(tmp_path, KEY, PROGRAM)

    assert load(tmp_path, KEY) == PROGRAM
    assert load(tmp_path, b"other") is None


@pytest.mark.parametrize("position", [0, 9, 21, -1])
def test_a_damaged_entry_is_none(tmp_path: Path, position: int) -> None:
    """One changed byte anywhere makes an entry void."""
    store(tmp_path, KEY, PROGRAM)
    path = entry_path(tmp_path, KEY)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)

    assert load(tmp_path, KEY) is None


def test_a_truncated_entry_is_none(tmp_path: Path) -> None:
    """So does a missing end, down to nothing."""
    store(tmp_path, KEY, PROGRAM)
    path = entry_path(tmp_path, KEY)
    content = path.read_bytes()

    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert load(tmp_path, KEY) is None


def test_an_entry_that_others_could_write_is_none(tmp_path: Path) -> None:
    """Group or world may not write it, and a link is not followed."""
    store(tmp_path, KEY, PROGRAM)
    path = entry_path(tmp_path, KEY)

    path.chmod(0o620)
    assert load(tmp_path, KEY) is None
    path.chmod(0o602)
    assert load(tmp_path, KEY) is None
    path.chmod(0o600)
    assert load(tmp_path, KEY) == PROGRAM
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert load(tmp_path, KEY) is None


def test_a_directory_that_can_not_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    """Without a cache the filter is compiled every time."""
    blocked = tmp_path / "file"
    blocked.touch()

    assert compiled(blocked / "cache") == compiled(tmp_path / "cache")


def test_every_fact_has_its_own_program(tmp_path: Path) -> None:
    """Profile, capabilities and flags all belong to the key."""
    chown = PROFILE % (
        b'{"names": ["read"], "action": "SCMP_ACT_ALLOW"},'
        b'{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}}'
    )
    filters = [
        compiled(tmp_path),
        compiled(tmp_path, chown, capabilities="CAP_BPF"),
        compiled(tmp_path, explain=True),
        compiled(tmp_path, single_uid=True),
        compiled(tmp_path, nest=True),
    ]

    assert len({one.programs for one in filters}) == len(filters)
    assert [compiled(tmp_path), compiled(tmp_path, nest=True)] == [filters[0], filters[4]]


def test_the_second_time_comes_from_the_cache(tmp_path: Path) -> None:
    """The stored program is taken as it is, and no temporary file stays behind."""
    first = compiled(tmp_path)
    (entry,) = tmp_path.iterdir()
    stored = entry.read_bytes()

    assert stored.endswith(first.programs[0])
    os.utime(entry, ns=(1, 1))
    assert compiled(tmp_path) == first
    assert entry.stat().st_mtime_ns == 1
    entry.write_bytes(stored[:-8])
    assert compiled(tmp_path) == first
    assert entry.read_bytes() == stored


def test_old_entries_go(tmp_path: Path) -> None:
    """The cache keeps the newest 64."""
    for number in range(70):
        store(tmp_path, b"%d" % number, PROGRAM)

    assert len(list(tmp_path.iterdir())) == 64
    assert load(tmp_path, b"69") == PROGRAM


def test_a_profile_is_a_name_in_the_search_path_or_a_path(tmp_path: Path) -> None:
    """The first directory that has NAME.json wins; a slash means a path."""
    user, built_in = tmp_path / "user", tmp_path / "built-in"
    for directory, content in ((user, b"{}"), (built_in, b"[]")):
        directory.mkdir()
        (directory / "default.json").write_bytes(content)

    assert load_profile("default", [user, built_in]) == b"{}"
    assert load_profile(str(built_in / "default.json"), [user]) == b"[]"
    with pytest.raises(NotFound, match="no such seccomp profile: other"):
        load_profile("other", [user, built_in])


def test_a_profile_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    """A directory, a FIFO that nobody writes, and endless data don't hang and don't crash."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(b" " * (1 << 20) + b"{}")

    with pytest.raises(InvalidSpec, match="can't be read"):
        load_profile(str(tmp_path), [])
    with pytest.raises(InvalidSpec, match="larger than"):
        load_profile(str(tmp_path / "big"), [])
    with pytest.raises(InvalidSpec, match="larger than"):
        load_profile("/dev/zero", [])
    assert load_profile(str(tmp_path / "fifo"), []) == b""

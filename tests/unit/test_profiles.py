"""Profiles: strict, merged, and as documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sandbox.engine import profiles
from sandbox.engine.profile_format import SECTIONS, TOP
from sandbox.engine.profile_text import profile_text, size_text
from sandbox.engine.profiles import Profile, load
from sandbox.engine.sizes import parse_size
from sandbox.errors import InvalidSpec, NotFound
from sandbox.paths import Paths
from sandbox.spec import Mount, Ulimit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "data", tmp_path / "run", tmp_path / "config", tmp_path / "cache")


def _write(paths: Paths, name: str, text: str) -> None:
    paths.profiles.mkdir(parents=True, exist_ok=True)
    (paths.profiles / f"{name}.toml").write_text(text)


def test_the_built_in_profiles_load(paths: Paths) -> None:
    """default, untrusted, dev and build are there and right."""
    assert profiles.names(paths) == ["build", "default", "dev", "untrusted"]
    assert all(load(name, paths).description for name in profiles.names(paths))


def test_untrusted_leaves_nothing_unlimited(paths: Paths) -> None:
    """No network, no capabilities, and a bound on everything that can be filled."""
    profile = load("untrusted", paths)

    assert profile.network == "none"
    assert profile.capabilities == ()
    assert profile.userns == "auto"
    assert profile.no_new_privileges
    assert profile.image_volumes == "ignore"
    assert None not in (profile.memory, profile.pids, profile.timeout, profile.output)
    assert None not in (profile.storage_size, profile.storage_inodes, profile.shm_size)
    assert all(mount.type == "tmpfs" and mount.size for mount in profile.mounts)


def test_a_profile_extends_another(paths: Paths) -> None:
    """Single values are replaced; mounts, limits and variables add up by their names."""
    _write(
        paths,
        "mine",
        """
        extends = "untrusted"
        [filesystem]
        tmpfs = ["/tmp:size=1m", "/x"]
        volumes = ["~/data:/data:ro"]
        [limits]
        memory = "1g"
        ulimits = ["core=5"]
        [process]
        env = { A = "1" }
        """,
    )

    profile = load("mine", paths, home="/home/me")

    assert profile.name == "mine"
    assert profile.memory == 1 << 30
    assert profile.pids == 128
    by_target = {mount.target: mount for mount in profile.mounts}
    assert by_target["/tmp"].size == 1 << 20
    assert by_target["/data"] == Mount("bind", "/data", "/home/me/data", readonly=True)
    assert {"/run", "/x"} <= set(by_target)
    assert Ulimit("core", 5, 5) in profile.ulimits
    assert profile.env == (("A", "1"),)


def test_an_own_profile_can_change_the_built_in_one(paths: Paths) -> None:
    """A user's `default` comes first and may extend the built-in `default`."""
    _write(paths, "default", 'extends = "default"\n[network]\nmode = "none"')

    profile = load("default", paths)

    assert profile.network == "none"
    assert profile.seccomp == "default"


def test_a_profile_can_be_a_file(paths: Paths, tmp_path: Path) -> None:
    """A name with a slash is a path."""
    (tmp_path / "x.toml").write_text("[limits]\npids = 7")

    assert load(str(tmp_path / "x.toml"), paths).pids == 7


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[limits]\nmemroy = '1g'", "unknown memroy in [limits]", "did you mean memory?"),
        ("[limit]\nmemory = '1g'", "unknown [limit]", "did you mean limits?"),
        ("memory = '1g'", "unknown memory", None),
        ("limits = 1", "limits is a section", "write [limits]"),
        ("[limits]\nmemory = true", "limits.memory is a string or a number", None),
        ("[limits]\nmemory = 'lots'", "limits.memory: invalid size", None),
        ("[security]\ncapabilities = 'ALL'", "security.capabilities is a list", None),
        ("[security]\ncapabilities = ['NOPE']", "security.capabilities", None),
        ("[filesystem]\nread_only = 'yes'", "filesystem.read_only is true or false", None),
        ("[filesystem]\noverlay = 'aufs'", "filesystem.overlay is one of fuse, kernel", None),
        ("[filesystem]\nvolumes = ['./x:/x']", "is relative", "begin with ~"),
        ("[process]\nenv = { A = 1 }", "process.env is a table of strings", None),
        ("not toml", "not TOML", None),
        ("extends = 'nope'", "no such profile: nope", None),
        ("extends = 'bad'", "extend each other in a circle", None),
    ],
)
def test_mistakes_are_named(paths: Paths, text: str, message: str, hint: str | None) -> None:
    """A misspelt limit is an error that says what was meant, never a limit less."""
    _write(paths, "bad", text)

    with pytest.raises((InvalidSpec, NotFound)) as caught:
        load("bad", paths)

    assert message in caught.value.message
    assert hint is None or caught.value.hint == hint


@pytest.mark.parametrize("name", ["nope", "../default", "", ".hidden", "/nope", "a\0b"])
def test_a_profile_that_is_not_there_is_an_error(paths: Paths, name: str) -> None:
    """No name leads out of the directories of profiles."""
    with pytest.raises(NotFound):
        load(name, paths)


def test_every_key_is_documented() -> None:
    """docs/profiles.md names each key with its meaning as the format has it."""
    document = (ROOT / "docs/profiles.md").read_text()

    for section, keys in SECTIONS.items():
        assert f"`[{section}]`" in document
        for name, key in keys.items():
            assert f"| `{name}` | {key.meaning} | `{key.example}` |" in document
    assert all(f"| `{name}` |" in document for name in TOP)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_example_is_right(paths: Paths, section: str) -> None:
    """What errors and documents give as examples is taken."""
    lines = [f"{name} = {key.example}" for name, key in SECTIONS[section].items()]
    _write(paths, "example", "\n".join([f"[{section}]", *lines]))

    assert load("example", paths) != Profile("example")


@pytest.mark.parametrize("name", ["build", "default", "dev", "untrusted"])
def test_a_shown_profile_reads_as_itself(paths: Paths, name: str) -> None:
    """`sbx profile show` prints TOML that means the same."""
    profile = load(name, paths)
    _write(paths, "copy", profile_text(profile))

    assert structs.replace(load("copy", paths), name=name) == profile


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_fields: dict[str, st.SearchStrategy[Any]] = {
    "description": _texts,
    "overlay": st.sampled_from(("fuse", "kernel", None)),
    "read_only": st.none() | st.booleans(),
    "memory": st.none() | st.integers(0, 2**62),
    "memory_swap": st.none() | st.integers(-1, 2**62),
    "cpus": st.none() | st.floats(0.01, 60000),
    "pids": st.none() | st.integers(1, 10**9),
    "timeout": st.none() | st.integers(0, 10**8).map(float),
    "capabilities": st.none() | st.just(()) | st.just(("CAP_CHOWN", "CAP_KILL")),
    "env": st.dictionaries(_texts, _texts, max_size=3).map(lambda d: tuple(d.items())),
    "user": st.none() | _texts,
    "ulimits": st.just(()) | st.just((Ulimit("core", 0, -1), Ulimit("nofile", 1, 2))),
    "mounts": st.just(())
    | st.just((Mount("tmpfs", "/t", "", True, 5, 0o755, ("noexec",)), Mount("bind", "/b", "/a"))),
}


@given(st.fixed_dictionaries(_fields))
def test_any_profile_can_be_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]
) -> None:
    """The text of a profile loses nothing."""
    directory = tmp_path_factory.mktemp("profile")
    file = directory / "p.toml"
    profile = Profile("p", **fields)
    file.write_text(profile_text(profile), encoding="utf-8", newline="")

    assert load(str(file), Paths(directory, directory, directory, directory)) == profile


@given(st.integers(0, 2**62))
def test_a_size_reads_as_itself(size: int) -> None:
    """The shortest spelling of a size is that size."""
    assert parse_size(size_text(size)) == size

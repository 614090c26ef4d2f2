"""From options, profile and image to a spec: docker's precedence."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from sandbox.engine.options import RunOptions
from sandbox.engine.profiles import Profile
from sandbox.engine.resolve import Identity, resolve
from sandbox.engine.volumes import anonymous_volume
from sandbox.errors import InvalidSpec, SbxError, UsageError
from sandbox.image.config import ImageConfig
from sandbox.image.store import Image
from sandbox.linux import capabilities
from sandbox.spec import ContainerSpec, Mount, Port, Ulimit

IDENTITY = Identity("ab" * 32, "name", 1.0, "/work")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _image(**config: Any) -> Image:
    return Image(
        id="sha256:" + "0" * 64,
        names=("image:latest",),
        config=ImageConfig(**config),
        lower=("/layers/1",),
        created=0.0,
        size=0,
    )


def _resolve(
    options: dict[str, Any] | None = None,
    profile: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    identity: Identity = IDENTITY,
) -> ContainerSpec:
    given = {"image": "image", "argv": ("true",)} | (options or {})
    return resolve(
        RunOptions(**given), Profile("test", **(profile or {})), _image(**(image or {})), identity
    )


@pytest.mark.parametrize(
    ("entrypoint", "argv", "image_entrypoint", "image_cmd", "expected"),
    [
        (None, (), None, ("cmd",), ("cmd",)),
        (None, ("x",), None, ("cmd",), ("x",)),
        (None, (), ("entry",), ("cmd",), ("entry", "cmd")),
        (None, ("x",), ("entry",), ("cmd",), ("entry", "x")),
        (("new",), (), ("entry",), ("cmd",), ("new",)),
        (("new",), ("x",), ("entry",), ("cmd",), ("new", "x")),
        ((), ("x",), ("entry",), ("cmd",), ("x",)),
    ],
)
def test_entrypoint_and_command_combine_as_in_docker(
    entrypoint: tuple[str, ...] | None,
    argv: tuple[str, ...],
    image_entrypoint: tuple[str, ...] | None,
    image_cmd: tuple[str, ...] | None,
    expected: tuple[str, ...],
) -> None:
    """A new command replaces the image's; a new entrypoint replaces both."""
    spec = _resolve(
        {"entrypoint": entrypoint, "argv": argv},
        image={"entrypoint": image_entrypoint, "cmd": image_cmd},
    )

    assert spec.argv == expected


def test_no_command_at_all_is_an_error() -> None:
    """The error says how a command is given."""
    with pytest.raises(UsageError, match="no command specified") as caught:
        _resolve({"argv": ()})
    assert caught.value.hint == "sbx run image COMMAND"


def test_variables_of_the_image_the_profile_and_the_command_line_merge() -> None:
    """What is said later wins; a variable without a value goes."""
    spec = _resolve(
        {"env": (("B", "cli"), ("C", None), ("D", "")), "tty": True},
        profile={"env": (("A", "profile"), ("B", "profile"))},
        image={"env": (("A", "image"), ("C", "image"), ("E", "image"))},
    )

    assert dict(spec.env) == {
        "PATH": PATH,
        "HOSTNAME": IDENTITY.id[:12],
        "TERM": "xterm",
        "A": "profile",
        "B": "cli",
        "D": "",
        "E": "image",
    }


def test_given_wins_over_profile_wins_over_image() -> None:
    """Single values have one owner."""
    assert _resolve(image={"user": "i"}).user == "i"
    assert _resolve(profile={"user": "p"}, image={"user": "i"}).user == "p"
    assert _resolve({"user": "o"}, {"user": "p"}, {"user": "i"}).user == "o"
    assert _resolve({"user": ""}, {"user": "p"}).user == ""
    assert _resolve({"read_only": False}, {"read_only": True}).read_only is False
    assert _resolve(image={"workdir": "srv/x/.."}).cwd == "/srv"
    assert _resolve({"cwd": "/w"}, image={"workdir": "/srv"}).cwd == "/w"
    assert _resolve(image={"stop_signal": "SIGINT"}).stop_signal == 2
    assert _resolve({"stop_signal": 9}, image={"stop_signal": "SIGINT"}).stop_signal == 9


def test_who_keeps_the_own_ids_is_oneself() -> None:
    """--userns keep-id makes the caller the user, unless another is asked for."""
    me = structs.replace(IDENTITY, uid=1000, gid=100)
    assert _resolve({"userns": "keep-id"}, identity=me).user == "1000:100"
    assert _resolve({"userns": "keep-id"}, image={"user": "i"}, identity=me).user == "1000:100"
    assert _resolve({"userns": "keep-id", "user": "root"}, identity=me).user == "root"
    assert _resolve(identity=me).user == ""

    alone = structs.replace(me, single_uid=True)
    spec = _resolve(profile={"userns": "keep-id"}, identity=alone)
    assert (spec.userns, spec.user) == ("root", "")


def test_labels_add_up() -> None:
    """The command line's labels win over the image's."""
    spec = _resolve({"labels": (("a", "2"),)}, image={"labels": (("a", "1"), ("b", "1"))})

    assert dict(spec.labels) == {"a": "2", "b": "1"}


def test_limits_asked_for_must_be_enforced() -> None:
    """Limits of the command line and of the profile are required, defaults are not."""
    assert _resolve().limits.required == ()
    spec = _resolve(
        {"memory": 1 << 20, "ulimits": (Ulimit("core", 0, 0),)}, {"pids": 5, "shm_size": 4096}
    )
    assert set(spec.limits.required) == {"memory", "pids", "ulimits"}
    assert spec.limits.shm_size == 4096


def test_best_effort_requires_nothing() -> None:
    """With --cgroups=best-effort no limit keeps the container from starting."""
    limits = _resolve({"memory": 1 << 20, "cgroups": "best-effort"}).limits

    assert limits.memory == 1 << 20
    assert limits.required == ()


def test_zero_takes_a_profiles_limit_away() -> None:
    """--timeout 0, --output-limit 0 and --pids-limit -1 mean no limit."""
    profile = {"timeout": 5.0, "output": 5, "pids": 5}
    limits = _resolve({"timeout": 0.0, "output": 0, "pids": -1}, profile).limits

    assert (limits.timeout, limits.output, limits.pids) == (None, None, None)
    assert limits.required == ()


def test_swap_goes_with_memory() -> None:
    """--memory-swap is a total; a profile without swap stays without."""
    with pytest.raises(UsageError):
        _resolve({"memory_swap": 5})
    with pytest.raises(UsageError):
        _resolve({"memory": 6, "memory_swap": 5})
    no_swap = {"memory": 5, "memory_swap": 5}
    assert _resolve({"memory": 9}, no_swap).limits.memory_swap == 9
    assert _resolve({"memory": 9}, {"memory": 5, "memory_swap": 7}).limits.memory_swap is None
    assert _resolve({"memory": 9, "memory_swap": -1}, no_swap).limits.memory_swap == -1


def test_capabilities_begin_with_the_profiles() -> None:
    """--cap-add and --cap-drop change what the profile gives."""

    def granted(options: dict[str, Any], profile: dict[str, Any] | None = None) -> set[str]:
        return set(_resolve(options, profile).security.capabilities)

    assert granted({}) == capabilities.DEFAULT
    assert granted({}, {"capabilities": ()}) == set()
    assert granted({"cap_add": ("net_raw",)}, {"capabilities": ()}) == {"CAP_NET_RAW"}
    assert granted({"cap_drop": ("ALL",)}) == set()
    assert granted({"privileged": True}) == capabilities.ALL


def test_mounts_of_the_command_line_replace_those_of_profile_and_image() -> None:
    """One target has one mount; saying it twice by hand is an error."""
    options = {"mounts": (Mount("bind", "/data", "/host"),)}
    profile = {"mounts": (Mount("tmpfs", "/data"), Mount("tmpfs", "/tmp"))}
    image = {"volumes": ("/data", "/tmp", "/var/lib/x/")}

    spec = _resolve(options, profile, image)

    assert {(mount.type, mount.target, mount.source) for mount in spec.mounts} == {
        ("bind", "/data", "/host"),
        ("tmpfs", "/tmp", ""),
        ("volume", "/var/lib/x", anonymous_volume(IDENTITY.id, "/var/lib/x")),
    }
    with pytest.raises(InvalidSpec, match="duplicate mount point: /data"):
        _resolve({"mounts": (Mount("tmpfs", "/data"), Mount("tmpfs", "/data"))})


def test_a_profile_decides_on_an_images_volumes() -> None:
    """They can be left out or be in memory: a volume is disk that no quota counts."""
    image = {"volumes": ("/v",)}
    assert _resolve(profile={"image_volumes": "ignore"}, image=image).mounts == ()
    (mount,) = _resolve(profile={"image_volumes": "tmpfs"}, image=image).mounts
    assert mount == Mount("tmpfs", "/v")


def test_the_current_directory_is_mounted_where_the_profile_says_so() -> None:
    """It is at its own path and is where the command starts; / is never mounted."""
    spec = _resolve(profile={"mount_cwd": True})
    assert spec.mounts == (Mount("bind", "/work", "/work"),)
    assert spec.cwd == "/work"

    root = structs.replace(IDENTITY, cwd="/")
    assert _resolve(profile={"mount_cwd": True}, identity=root).mounts == ()


def test_the_kernels_overlay_is_taken_where_it_can() -> None:
    """A profile's wish gives way to the host image and to quotas; a command line is an error."""
    kernel = {"overlay": "kernel"}
    assert _resolve(profile=kernel).overlay == "kernel"
    assert _resolve({"storage_size": 5}, kernel).overlay == "fuse"
    host = structs.replace(_image(), lower=("/",))
    options = RunOptions("host", ("true",))
    assert resolve(options, Profile("p", overlay="kernel"), host, IDENTITY).overlay == "fuse"
    with pytest.raises(UsageError):
        _resolve({"overlay": "kernel", "storage_size": 5})


def test_ports_need_a_network_of_ones_own() -> None:
    """Without a network they are an error; with the host's they mean nothing, as in docker."""
    ports = (Port(80, 8080),)
    assert _resolve({"ports": ports}).ports == ports
    assert _resolve({"ports": ports, "network": "host"}).ports == ()
    with pytest.raises(UsageError):
        _resolve({"ports": ports, "network": "none"})
    with pytest.raises(InvalidSpec, match="published twice"):
        _resolve({"ports": (Port(80, 8080), Port(81, 8080))})


def test_all_exposed_ports_can_be_published() -> None:
    """-P publishes what the image exposes and -p did not name."""
    image = {"exposed_ports": ("80/tcp", "53/udp")}
    spec = _resolve({"publish_all": True, "ports": (Port(80, 8080),)}, image=image)

    assert spec.ports == (Port(80, 8080), Port(53, 0, "", "udp"))


@pytest.mark.parametrize(
    ("options", "image"),
    [
        ({"hostname": "a b"}, {}),
        ({"hostname": "-a"}, {}),
        ({"hostname": "a" * 64}, {}),
        ({"cwd": "relative"}, {}),
        ({"argv": ("",)}, {}),
        ({}, {"env": (("A", "x\0y"),)}),
        ({}, {"env": (("A=B", "x"),)}),
        ({}, {"volumes": ("../..",)}),
        ({}, {"volumes": ("/",)}),
        ({}, {"stop_signal": "NOPE"}),
        ({"publish_all": True}, {"exposed_ports": ("x",)}),
    ],
)
def test_what_can_not_be_run_is_refused(options: dict[str, Any], image: dict[str, Any]) -> None:
    """A hostile image's configuration is an error, not a surprise."""
    with pytest.raises(SbxError):
        _resolve(options, image=image)

"""The values of run's options: what is taken, and what is refused with a reason."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.engine import options, sizes
from sandbox.engine.environment import parse_label, parse_variable, read_env_file
from sandbox.engine.mount_syntax import parse_mount, parse_tmpfs, parse_volume
from sandbox.engine.port_syntax import parse_ports, spell
from sandbox.engine.signals import parse_signal
from sandbox.engine.times import log_time, parse_moment, rfc3339
from sandbox.errors import InvalidSpec, NotFound, SbxError
from sandbox.spec import Device, Mount, Port, Ulimit


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1 k", 1024),
        ("2T", 2 << 40),
        ("7b", 7),
    ],
)
def test_sizes_are_in_powers_of_1024(text: str, size: int) -> None:
    """Every spelling that docker takes means the same number of bytes."""
    assert sizes.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.2.3m", "1e3", "9" * 30, "0x10", "1 2m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A size that could be misread is an error."""
    with pytest.raises(InvalidSpec):
        sizes.parse_size(text)


@given(st.integers(0, 2**53), st.sampled_from("kmg"))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    """No number is rounded on the way."""
    expected = number * 1024 ** (" kmg".index(unit))
    if expected < 2**63:
        assert sizes.parse_size(f"{number}{unit}") == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("0.5", 0.5), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1d", 86400)],
)
def test_durations_are_seconds_or_gos(text: str, seconds: float) -> None:
    """A bare number is seconds; units add up."""
    assert sizes.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1x", "1h-1m", "inf", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A time limit that could be misread is an error."""
    with pytest.raises(InvalidSpec):
        sizes.parse_duration(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_processors_are_more_than_none(text: str) -> None:
    """--cpus takes a finite number above 0."""
    with pytest.raises(InvalidSpec):
        sizes.parse_cpus(text)


def test_lists_of_processors_are_checked() -> None:
    """--cpuset-cpus takes cpuset(7)'s list format."""
    assert sizes.parse_cpuset("0-2,4") == "0-2,4"
    for text in ("", "a", "2-1", "0,", "-1"):
        with pytest.raises(InvalidSpec):
            sizes.parse_cpuset(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", (Port(80, 0),)),
        ("8080:80", (Port(80, 8080),)),
        ("8080:80/udp", (Port(80, 8080, "", "udp"),)),
        ("127.0.0.1:8080:80", (Port(80, 8080, "127.0.0.1"),)),
        ("127.0.0.1::80", (Port(80, 0, "127.0.0.1"),)),
        ("[::1]:80:80/udp", (Port(80, 80, "::1", "udp"),)),
        ("8000-8001:80-81", (Port(80, 8000), Port(81, 8001))),
        ("80-81", (Port(80, 0), Port(81, 0))),
    ],
)
def test_ports_are_read_as_docker_reads_them(text: str, ports: tuple[Port, ...]) -> None:
    """Address, host port, container port and protocol, each optional but the third."""
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0:80",
        "80:0",
        "65536",
        "a:80",
        "80:80:80",
        "1-2:3",
        "2-1:3-4",
        "80/sctp",
        "80/",
        "1.2.3:80:80",
        "::1:80:80",
        "[::1:80:80",
        "80:80:80:80",
        "x",
    ],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    """A port that can't be published is an error that quotes it."""
    with pytest.raises(InvalidSpec) as caught:
        parse_ports(text)
    assert repr(text) in caught.value.message


@given(
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.ip_addresses().map(str),
    st.sampled_from(("tcp", "udp")),
)
def test_a_spelled_port_reads_as_itself(
    container: int, host: int, address: str, protocol: str
) -> None:
    """Any port that can be published can be written."""
    ip = f"[{address}]" if ":" in address else address
    (port,) = parse_ports(f"{ip}:{host}:{container}/{protocol}")
    assert (port.host_port, port.container_port, port.protocol) == (host, container, protocol)
    # inet_ntop(3) may spell an IPv6 address otherwise than Python does.
    assert ipaddress.ip_address(port.host_ip) == ipaddress.ip_address(address)
    assert spell(port).endswith(f":{host}->{container}/{protocol}")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", Mount("bind", "/b", "/a")),
        ("./a:/b:ro", Mount("bind", "/b", "/home/me/a", readonly=True)),
        ("../x/:/b:z", Mount("bind", "/b", "/home/x")),
        ("a/b:/c", Mount("bind", "/c", "/home/me/a/b")),
        ("data:/b:rw,noexec", Mount("volume", "/b", "data", options=("noexec",))),
        ("/b", Mount("volume", "/b")),
        ("/a://b/../c/", Mount("bind", "/c", "/a")),
    ],
)
def test_volumes_are_read_as_docker_reads_them(text: str, mount: Mount) -> None:
    """A path is a bind mount, a word is a named volume, nothing is an anonymous one."""
    assert parse_volume(text, "/home/me") == mount


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/a:",
        ":/b",
        "/a:b",
        "/a:/",
        "/a:/..",
        "/a:/b:ro:rw",
        "/a:/b:ro,rw",
        "/a:/b:shared",
        "/a:/b:U",
        "/a:/b:nonsense",
        "a:/b:suid",
        "-a:/b",
    ],
)
def test_what_is_no_volume_is_refused(text: str) -> None:
    """A mount that sbx can't make as asked is an error, never silently another."""
    with pytest.raises(InvalidSpec):
        parse_volume(text, "/")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,source=a,target=/b,readonly", Mount("bind", "/b", "/home/me/a", True)),
        ("type=bind,src=/a,dst=/b,ro=false", Mount("bind", "/b", "/a")),
        ("source=data,destination=/b", Mount("volume", "/b", "data")),
        ("type=volume,target=/b", Mount("volume", "/b")),
        (
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
            Mount("tmpfs", "/t", size=1 << 20, mode=0o700),
        ),
    ],
)
def test_mounts_are_read_as_docker_reads_them(text: str, mount: Mount) -> None:
    """Keys and their short forms; volume is the default type."""
    assert parse_mount(text, "/home/me") == mount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type=bind",
        "type=bind,target=/b",
        "type=nfs,target=/b",
        "target=b",
        "target=/b,size=1",
        "type=tmpfs,source=/a,target=/b",
        "type=bind,source=/a,target=/b,tmpfs-size=1m",
        "target",
        "type=tmpfs,target=/b,tmpfs-size=0",
        "source=../x,target=/b",
        "target=/b,readonly=maybe",
    ],
)
def test_what_is_no_mount_is_refused(text: str) -> None:
    """An unknown key or one that doesn't fit the type is an error."""
    with pytest.raises(InvalidSpec):
        parse_mount(text, "/")


def test_tmpfs_takes_size_and_mode() -> None:
    """--tmpfs takes the mount options that docker documents."""
    assert parse_tmpfs("/t") == Mount("tmpfs", "/t")
    assert parse_tmpfs("/t:size=64m,mode=1777,noexec,ro") == Mount(
        "tmpfs", "/t", "", True, 64 << 20, 0o1777, ("noexec",)
    )
    for text in ("t", "/", "/t:size=0", "/t:mode=9", "/t:size=x", "/t:nonsense"):
        with pytest.raises(InvalidSpec):
            parse_tmpfs(text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", Ulimit("nofile", 1024, 1024)),
        ("nofile=1024:2048", Ulimit("nofile", 1024, 2048)),
        ("core=-1", Ulimit("core", -1, -1)),
        ("core=0:unlimited", Ulimit("core", 0, -1)),
    ],
)
def test_ulimits_have_a_soft_and_a_hard_value(text: str, limit: Ulimit) -> None:
    """Without a hard value both are the same."""
    assert options.parse_ulimit(text) == limit


@pytest.mark.parametrize("text", ["", "nofile", "nofile=", "nofle=1", "nofile=2:1", "nofile=-1:5"])
def test_what_is_no_ulimit_is_refused(text: str) -> None:
    """An unknown name, or a soft limit above the hard one, is an error."""
    with pytest.raises(InvalidSpec):
        options.parse_ulimit(text)


def test_only_harmless_devices_can_be_passed() -> None:
    """A device that reaches hardware is refused with a reason."""
    assert options.parse_device("/dev/null") == Device("/dev/null", "/dev/null")
    assert options.parse_device("/dev/zero:/dev/x:rw") == Device("/dev/zero", "/dev/x")
    assert options.parse_device("/dev/zero:rwm") == Device("/dev/zero", "/dev/zero")
    for text in ("/dev/sda", "/dev/kvm", "null", "/dev/null:/etc/x", "/dev/null:/dev/x:q", ""):
        with pytest.raises(InvalidSpec):
            options.parse_device(text)


def test_security_options_set_one_field_each() -> None:
    """docker's spellings are known, with = and with a colon."""
    parse = options.parse_security_option
    assert parse("seccomp=unconfined") == {"seccomp": "unconfined"}
    assert parse("seccomp:/x.json") == {"seccomp": "/x.json"}
    assert parse("no-new-privileges") == {"no_new_privileges": True}
    assert parse("no-new-privileges:false") == {"no_new_privileges": False}
    assert parse("systempaths=unconfined") == {"masked_paths": False}
    for text in ("seccomp", "nonsense", "apparmor=other", "no-new-privileges=maybe"):
        with pytest.raises(InvalidSpec):
            parse(text)


def test_storage_options_are_quotas() -> None:
    """size and inodes are known, nothing else."""
    assert options.parse_storage_option("size=1g") == {"storage_size": 1 << 30}
    assert options.parse_storage_option("inodes=10") == {"storage_inodes": 10}
    for text in ("size", "size=", "inodes=1k", "x=1"):
        with pytest.raises(InvalidSpec):
            options.parse_storage_option(text)


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "sigterm", "15", " 15 "])
def test_signals_have_names_and_numbers(text: str) -> None:
    """Every spelling of SIGTERM is 15."""
    assert parse_signal(text) == signal.SIGTERM


def test_realtime_signals_are_counted_from_their_ends() -> None:
    """RTMIN+n and RTMAX-n are known."""
    assert parse_signal("RTMIN+3") == signal.SIGRTMIN + 3
    assert parse_signal("SIGRTMAX-1") == signal.SIGRTMAX - 1


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-1", "NOPE", "RTMIN+99", "_DFL", "SIG_IGN", "RTMIN*2"]
)
def test_what_is_no_signal_is_refused(text: str) -> None:
    """Names that merely look like signals are errors."""
    with pytest.raises(InvalidSpec):
        parse_signal(text)


def test_a_variable_without_a_value_comes_from_the_environment() -> None:
    """`-e NAME` passes it on; where it is not set it is taken away."""
    assert parse_variable("A=1=2", {}) == ("A", "1=2")
    assert parse_variable("A=", {"A": "x"}) == ("A", "")
    assert parse_variable("A", {"A": "x"}) == ("A", "x")
    assert parse_variable("A", {}) == ("A", None)
    with pytest.raises(InvalidSpec):
        parse_variable("=x", {})


def test_a_file_s_values_keep_what_only_looks_like_the_end_of_a_line(tmp_path: Path) -> None:
    """A line ends with a newline: form feeds and Unicode's separators are part of a value."""
    file = tmp_path / "env"
    file.write_bytes("A=1\x0cPATH=x\nB=2\u2028LD_PRELOAD=y\r\n".encode())

    assert read_env_file(file, {}) == (("A", "1\x0cPATH=x"), ("B", "2\u2028LD_PRELOAD=y"))


def test_an_env_file_is_read_line_by_line(tmp_path: Path) -> None:
    """Comments and empty lines are skipped, quotes are kept, names alone come from outside."""
    file = tmp_path / "env"
    file.write_text('\ufeffA=1\n# no\n\n  B="x y" \nC\nD\n')

    assert read_env_file(file, {"C": "c"}) == (("A", "1"), ("B", '"x y" '), ("C", "c"))


def test_a_damaged_env_file_is_named(tmp_path: Path) -> None:
    """The error says which file and which line."""
    file = tmp_path / "env"
    file.write_text("A=1\nnot a name=2\n")

    with pytest.raises(InvalidSpec, match="line 2"):
        read_env_file(file, {})
    with pytest.raises(NotFound):
        read_env_file(tmp_path / "none", {})


def test_labels_may_lack_a_value() -> None:
    """`--label x` is the empty string."""
    assert parse_label("a=b=c") == ("a", "b=c")
    assert parse_label("a") == ("a", "")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1.7e9),
        ("2023-11-14T22:13:20Z", 1.7e9),
        ("2023-11-14T23:13:20.5+01:00", 1.7e9 + 0.5),
        ("10m", 400.0),
    ],
)
def test_moments_are_absolute_or_relative(text: str, moment: float) -> None:
    """--since takes timestamps, seconds since the epoch, and how long ago."""
    assert parse_moment(text, 1000.0) == moment


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_log_times_sort_as_the_moments_do(first: float, second: float) -> None:
    """Comparing text is comparing time."""
    if first <= second:
        assert log_time(first) <= log_time(second)


def test_times_are_printed_as_go_prints_them() -> None:
    """Trailing zeros are left out, and no time is year 1."""
    assert rfc3339(1.7e9 + 0.25) == "2023-11-14T22:13:20.25Z"
    assert rfc3339(1.7e9) == "2023-11-14T22:13:20Z"
    assert rfc3339(None) == "0001-01-01T00:00:00Z"


_PARSERS: list[Callable[[str], Any]] = [
    sizes.parse_size,
    sizes.parse_memory_swap,
    sizes.parse_duration,
    sizes.parse_cpus,
    sizes.parse_cpuset,
    parse_ports,
    parse_tmpfs,
    parse_signal,
    parse_label,
    lambda text: parse_volume(text, "/"),
    lambda text: parse_mount(text, "/"),
    lambda text: parse_variable(text, {}),
    lambda text: parse_moment(text, 0),
    options.parse_network,
    options.parse_userns,
    options.parse_ulimit,
    options.parse_device,
    options.parse_security_option,
    options.parse_storage_option,
    options.parse_log_option,
    options.parse_pids,
]
_words = st.sampled_from(
    [*"0123456789:=,/.-[] kmgbs\0", "type", "bind", "source", "target", "/a", "ro"]
)


@given(st.sampled_from(_PARSERS), st.text() | st.lists(_words, max_size=12).map("".join))
def test_no_value_is_more_than_an_error(parse: Callable[[str], Any], text: str) -> None:
    """Whatever is given as a value is taken or is an SbxError."""
    with contextlib.suppress(SbxError):
        parse(text)

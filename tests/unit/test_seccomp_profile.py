"""Reading docker's and podman's profile format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import InvalidSpec
from sandbox.linux.seccomp_json import parse
from sandbox.linux.seccomp_profile import Condition, Machine, Profile

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
EPERM, ENOSYS = 0x50001, 0x50026
MACHINE = Machine("amd64", (6, 1), frozenset({"CAP_CHOWN"}))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = "defaultAction defaultErrnoRet defaultErrno architectures archMap flags syscalls comment"
RULE_KEYS = "name names action errnoRet errno args includes excludes comment"


def profile(*rules: dict[str, Any], **top: Any) -> Profile:
    return parse(json.dumps({"defaultAction": ERRNO, "syscalls": rules, **top}).encode())


def problem(text: bytes | dict[str, Any]) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse(text if isinstance(text, bytes) else json.dumps(text).encode(), "p.json")
    return caught.value.describe()


def test_the_default_action_is_eperm_unless_an_errno_is_named() -> None:
    """An errno comes from docker's number, from podman's name, or is EPERM."""
    assert profile().default == EPERM
    assert profile(defaultErrnoRet=38).default == ENOSYS
    assert profile(defaultErrno="ENOSYS").default == ENOSYS
    assert profile(defaultErrno="ENOSYS", defaultErrnoRet=38).default == ENOSYS


def test_gates_choose_the_rules() -> None:
    """includes needs all of its capabilities, excludes any of them; arches and kernels count."""
    parsed = profile(
        {"names": ["a"], "action": ALLOW, "includes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["b"], "action": ALLOW, "includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}},
        {"names": ["c"], "action": ALLOW, "excludes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}},
        {"names": ["d"], "action": ALLOW, "includes": {"arches": ["arm64", "amd64"]}},
        {"names": ["e"], "action": ALLOW, "excludes": {"arches": ["amd64"]}},
        {"names": ["f"], "action": ALLOW, "includes": {"minKernel": "6.1"}},
        {"names": ["g"], "action": ALLOW, "includes": {"minKernel": "6.10"}},
        {"names": ["h"], "action": ALLOW, "includes": None, "excludes": {}, "args": None},
    ).for_machine(MACHINE)

    assert [name for rule in parsed.rules for name in rule.names] == ["a", "d", "f", "h"]


def test_a_rule_without_conditions_is_what_happens_otherwise() -> None:
    """A rule with conditions goes first, whatever the order in the file."""
    only_unix = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    parsed = profile(
        {"names": ["socket"], "action": ERRNO, "errnoRet": 97},
        {"names": ["socket"], "action": ALLOW, "args": [only_unix]},
    )

    assert parsed.decide("socket", (1, 0, 0, 0, 0, 0))[0] == 0x7FFF0000
    assert parsed.decide("socket", (2, 0, 0, 0, 0, 0))[0] == 0x50000 | 97
    assert parsed.decide("other", (0,) * 6) == (EPERM, None)


def test_the_strictest_of_the_matching_rules_wins() -> None:
    """Of two rules whose conditions hold, the one that the kernel ranks higher counts."""
    small = {"index": 1, "value": 9, "op": "SCMP_CMP_LE"}
    zero = {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}
    parsed = profile(
        {"names": ["ioctl"], "action": ALLOW, "args": [small]},
        {"names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS", "args": [zero]},
    )

    assert parsed.decide("ioctl", (0, 5, 0, 0, 0, 0))[0] == 0x80000000


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    """As in runc and crun, which profiles rely on."""
    rule = {
        "names": ["personality"],
        "action": ALLOW,
        "args": [{"index": 0, "value": v, "op": "SCMP_CMP_EQ"} for v in (0, 8)],
    }

    assert profile(rule).rules[0].matches((8, 0, 0, 0, 0, 0))
    assert not profile(rule).rules[0].matches((1, 0, 0, 0, 0, 0))


def test_docker_s_older_single_name_is_read() -> None:
    """`name` is one name, and only without `names`."""
    assert profile({"name": "read", "action": ALLOW}).rules[0].names == ("read",)
    assert "both" in problem(
        {"defaultAction": ALLOW, "syscalls": [{"name": "a", "names": ["b"], "action": ALLOW}]}
    )


def test_architectures_come_from_either_form() -> None:
    """archMap and the older flat list say the same."""
    mapped = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]

    assert profile(archMap=mapped).architectures == {"x86_64": ("x86",)}
    flat = profile(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]).architectures
    assert flat["x86_64"] == ("x86",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"defaultAction": "SCMP_ACT_ALLOW",\n "syscalls": }', "p.json is not JSON: line 2"),
        (b"\xff", "not a JSON object in UTF-8"),
        (b'{"flags": NaN}', "NaN"),
        (b'{"flags": [], "flags": []}', "stands twice"),
        (b"[" * 100_000, "not a JSON object"),
        (b"[]", "expected an object"),
        ({}, "defaultAction: None is not an action"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "needs an agent"),
        ({"defaultAction": ALLOW, "defaultErrnoRet": 1}, "has no errno"),
        ({"defaultAction": ERRNO, "defaultErrno": "EPERM", "defaultErrnoRet": 2}, "says 2"),
        ({"defaultAction": ERRNO, "defaultErrno": "ENOTHING"}, "not the name of an errno"),
        ({"defaultAction": ERRNO, "defaultErrnoRet": 4096}, "from 0 to 4095"),
        ({"defaultAction": ERRNO, "sysCalls": []}, "'sysCalls' is not known"),
        ({"defaultAction": ERRNO, "flags": ["FAST"]}, "not a flag"),
        ({"defaultAction": ERRNO, "architectures": ["amd64"]}, "SCMP_ARCH_X86_64"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(text: Any, message: str) -> None:
    """The message names the file and what is wrong in it."""
    found = problem(text)

    assert message in found
    assert "p.json" in found


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"names": [], "action": ALLOW}, "syscalls[0]: names no system call"),
        ({"names": ["a b"], "action": ALLOW}, "syscalls[0].names: 'a b'"),
        ({"names": ["read"]}, "syscalls[0].action: None"),
        ({"names": ["read"], "action": ALLOW, "args": [{}]}, "syscalls[0].args[0].op"),
        (
            {
                "names": ["a"],
                "action": ALLOW,
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}],
            },
            "args[0].index: expected an integer from 0 to 5",
        ),
        (
            {
                "names": ["a"],
                "action": ALLOW,
                "args": [{"index": 0, "value": True, "op": "SCMP_CMP_EQ"}],
            },
            "args[0].value",
        ),
        (
            {"names": ["a"], "action": ALLOW, "includes": {"minKernel": "new"}},
            "syscalls[0].includes.minKernel",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(rule: dict[str, Any], message: str) -> None:
    """The message counts the rule and names its key."""
    assert message in problem({"defaultAction": ERRNO, "syscalls": [rule]})


def test_a_mask_that_can_never_match_is_refused() -> None:
    """MASKED_EQ with value and valueTwo swapped is a mistake that would open a hole silently."""
    swapped = {"index": 0, "value": 2, "valueTwo": 0xFF, "op": "SCMP_CMP_MASKED_EQ"}
    rule = {"names": ["clone"], "action": ALLOW, "args": [swapped]}

    assert "can never hold" in problem({"defaultAction": ERRNO, "syscalls": [rule]})


@given(st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_profile_or_refused(text: bytes) -> None:
    """The parser has no other way to fail."""
    try:
        assert isinstance(parse(text), Profile)
    except InvalidSpec:
        pass


@given(
    st.dictionaries(st.sampled_from(KEYS.split()), JSON),
    st.lists(st.dictionaries(st.sampled_from(RULE_KEYS.split()), JSON), max_size=2),
)
def test_any_object_of_the_right_keys_is_a_profile_or_refused(
    document: dict[str, Any], rules: list[Any]
) -> None:
    """Values of any type are met with InvalidSpec and nothing else."""
    text = json.dumps({"defaultAction": ERRNO, **document, "syscalls": rules}).encode()
    try:
        assert isinstance(parse(text), Profile)
    except InvalidSpec:
        pass


@given(
    st.integers(0, 5), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=6)
)
def test_masked_equality_looks_at_the_masked_bits_alone(
    index: int, mask: int, args: list[int]
) -> None:
    """Bits outside of the mask never matter."""
    condition = Condition(index, "MASKED_EQ", mask, args[index] & mask)
    args[index] ^= ~mask & (2**64 - 1)

    assert condition.holds(args)

"""The compiled program does what the profile says, by running it in an interpreter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.errors import InvalidSpec
from sandbox.linux import seccomp_library
from sandbox.linux.seccomp_bpf import (
    RET_ALLOW,
    RET_ERRNO,
    RET_KILL_PROCESS,
    RET_USER_NOTIF,
    check,
    errno_of,
    evaluate,
)
from sandbox.linux.seccomp_compile import (
    NESTING,
    compile_profile,
    nesting,
    notifying,
    this_machine,
)
from sandbox.linux.seccomp_json import parse
from sandbox.linux.seccomp_profile import Condition, Profile, Rule
from sandbox.linux.seccomp_syscalls import AUDIT_ARCHITECTURES, LATE_CALLS, native

NATIVE = native()
if NATIVE is None:
    pytest.skip("sbx has no seccomp filters for this architecture", allow_module_level=True)
TOKEN = AUDIT_ARCHITECTURES[NATIVE.name]
ON_X86_64 = NATIVE.name == "x86_64"
X86 = AUDIT_ARCHITECTURES["x86"]
EPERM, ENOSYS = RET_ERRNO | 1, RET_ERRNO | 38

CALLS = ("read", "write", "socket", "socketpair", "clone", "ioctl", "personality", "mseal")
WORDS = st.sampled_from([0, 1, 2, 8, 0x5412, 0xFFFFFFFF, 1 << 32, (1 << 32) | 0x5412, 2**64 - 1])
ACTIONS = st.sampled_from([RET_ALLOW, EPERM, ENOSYS, RET_ERRNO | 22, RET_KILL_PROCESS])


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    operator = draw(st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]))
    value = draw(WORDS)
    datum = draw(WORDS) & value if operator == "MASKED_EQ" else 0
    return Condition(draw(st.integers(0, 3)), operator, value, datum)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    names = draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=3, unique=True))
    # A call that libseccomp is too old for can't have conditions (docs/seccomp.md).
    some = st.just([]) if "mseal" in names else st.lists(conditions(), max_size=2)
    return Rule(tuple(names), draw(ACTIONS), tuple(draw(some)))


def number(name: str, token: int = TOKEN) -> int:
    return LATE_CALLS.get(name) or seccomp_library.resolve(name, token) or 0


def compiled(*given_rules: dict[str, Any], capabilities: str = "", **top: Any) -> bytes:
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": given_rules, **top}).encode()
    return compile_profile(parse(text).for_machine(this_machine(capabilities.split())))


def run(program: bytes, name: str, *args: int, token: int = TOKEN) -> int:
    return evaluate(program, number(name, token), token, [*args, *[0] * (6 - len(args))])


@settings(deadline=None, max_examples=200)
@given(ACTIONS, st.lists(rules(), max_size=6), st.data())
def test_the_program_decides_as_the_profile(
    default: int, some: list[Rule], data: st.DataObject
) -> None:
    """For random profiles and calls, the BPF and the profile's own meaning agree."""
    profile = Profile(default, tuple(some))
    program = compile_profile(profile)

    for name in CALLS:
        args = [data.draw(WORDS) for _ in range(6)]
        wanted, rule = profile.decide(name, args)
        if rule is None and default not in (RET_ALLOW, ENOSYS) and newest(profile) < number(name):
            wanted = ENOSYS  # newer than the profile
        assert run(program, name, *args) == wanted, name


def newest(profile: Profile) -> int:
    # Without any name there is no telling how old the profile is.
    return max((number(n) for rule in profile.rules for n in rule.names), default=10**6)


def test_upper_bits_do_not_carry_an_ioctl_past_its_rule() -> None:
    """The kernel takes 32 bits of an ioctl's request, so the filter looks at those alone."""
    tiocsti = {
        "index": 1,
        "value": 0xFFFFFFFF,
        "valueTwo": 0x5412,
        "op": "SCMP_CMP_MASKED_EQ",
    }
    program = compiled(
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [tiocsti]},
    )

    assert run(program, "ioctl", 0, 0x5401) == RET_ALLOW
    assert run(program, "ioctl", 0, 0x5412) == EPERM
    assert run(program, "ioctl", 0, 0x5412 | 1 << 32) == EPERM
    assert run(program, "ioctl", 0, 0x5412 | 0xDEADBEEF << 32) == EPERM


def test_orderings_on_one_argument_do_not_spoil_each_other() -> None:
    """libseccomp 2.5.4 would forget the second of these two."""
    less = [Condition(3, "LT", value) for value in (0, 1 << 32)]
    program = compile_profile(Profile(RET_ALLOW, (Rule(("read",), EPERM, tuple(less)),)))

    assert run(program, "read", 0, 0, 0, 1) == EPERM
    assert run(program, "read", 0, 0, 0, 1 << 32) == RET_ALLOW


def test_calls_newer_than_the_profile_do_not_exist() -> None:
    """With a default of EPERM libc could not fall back from a call that the profile's author
    did not know; a call that he could have known keeps his default."""
    program = compiled({"names": ["statx", "read"], "action": "SCMP_ACT_ALLOW"})

    assert run(program, "clone3") == ENOSYS
    assert run(program, "mount") == EPERM
    assert run(program, "statx") == RET_ALLOW


def test_calls_that_libseccomp_does_not_know_are_allowed_by_number() -> None:
    """A profile may name calls of kernels newer than the library."""
    program = compiled({"names": ["mseal", "read"], "action": "SCMP_ACT_ALLOW"})

    assert evaluate(program, 462, TOKEN, [0] * 6) == RET_ALLOW
    assert evaluate(program, 463, TOKEN, [0] * 6) == ENOSYS


def test_a_foreign_architecture_has_no_calls() -> None:
    """Calls of an architecture that the profile does not list get ENOSYS, x32 always."""
    program = compiled(
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"]}],
    )

    assert evaluate(program, 3, X86, [0] * 6) == ENOSYS
    if ON_X86_64:
        assert evaluate(program, 0x40000000, TOKEN, [0] * 6) == ENOSYS


@pytest.mark.skipif(not ON_X86_64, reason="32-bit x86 calls: x86_64 only")
def test_socketcall_does_not_open_what_socket_closes() -> None:
    """libseccomp allows all of socketcall(SYS_SOCKET) for a rule that allows one family."""
    program = compiled(
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
        },
        {"names": ["close_range"], "action": "SCMP_ACT_ALLOW"},
        archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    )

    assert evaluate(program, 102, X86, [1, 0, 0, 0, 0, 0]) == EPERM
    assert evaluate(program, 359, X86, [1, 0, 0, 0, 0, 0]) == RET_ALLOW
    assert evaluate(program, 359, X86, [40, 0, 0, 0, 0, 0]) == EPERM


def test_an_unknown_name_may_be_allowed_but_not_denied() -> None:
    """Allowing what is not there is harmless; a denial that can't be kept is an error."""
    assert compiled({"names": ["no_such_call", "read"], "action": "SCMP_ACT_ALLOW"})
    with pytest.raises(InvalidSpec, match="no_such_call"):
        compiled(
            {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}, defaultAction="SCMP_ACT_ALLOW"
        )


def test_notifying_replaces_errnos_and_nothing_else() -> None:
    """Allowed and killing answers stay."""
    program = notifying(
        compiled(
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["write"], "action": "SCMP_ACT_KILL_PROCESS"},
        )
    )

    assert run(program, "read") == RET_ALLOW
    assert run(program, "write") == RET_KILL_PROCESS
    assert run(program, "getpid") == RET_USER_NOTIF


def test_nesting_allows_namespaces_and_mounts() -> None:
    """Whatever the profile says of them; clone3 keeps its answer."""
    denied = Rule((*NESTING, "clone3"), EPERM)
    program = compile_profile(nesting(Profile(EPERM, (denied,))))

    assert run(program, "unshare", 0x10000000) == RET_ALLOW
    assert run(program, "mount") == RET_ALLOW
    assert run(program, "clone3") == EPERM


ROOT_OR_SAME = st.sampled_from([0, 0xFFFFFFFF, 0xABC << 32, 0xABC << 32 | 0xFFFFFFFF])
OTHER = st.integers(1, 0xFFFFFFFE) | st.integers(1, 0xFFFFFFFE).map(lambda n: n | 7 << 32)


@settings(deadline=None)
@given(ROOT_OR_SAME, OTHER)
def test_only_changes_to_other_owners_are_pretended(mine: int, other: int) -> None:
    """Ids are the low 32 bits; 0 and -1 reach the kernel, everything else succeeds emptily."""
    program = EMULATING
    succeeded = RET_ERRNO | 0

    assert run(program, "fchownat", 0, 0, mine, mine) == RET_ALLOW
    assert run(program, "fchownat", 0, 0, mine, other) == succeeded
    assert run(program, "fchownat", 0, 0, other, mine) == succeeded
    assert run(program, "setresuid", mine, mine, mine) == RET_ALLOW
    assert run(program, "setresuid", mine, mine, other) == succeeded
    assert run(program, "setgid", other) == succeeded
    assert run(program, "setgroups", 0, 0) == succeeded
    assert run(program, "read", other, other) == RET_ALLOW


@pytest.mark.skipif(not ON_X86_64, reason="32-bit x86 calls: x86_64 only")
def test_16_bit_ids_are_pretended_too() -> None:
    """32-bit x86 has calls with 16-bit ids, where -1 is 0xffff."""
    program = EMULATING

    assert evaluate(program, 182, X86, [0, 0, 0xFFFF, 0, 0, 0]) == RET_ALLOW
    assert evaluate(program, 182, X86, [0, 0xFFFF0000, 0, 0, 0, 0]) == RET_ALLOW
    assert evaluate(program, 182, X86, [0, 33, 0, 0, 0, 0]) == RET_ERRNO
    assert evaluate(program, 212, X86, [0, 0xFFFF, 0, 0, 0, 0]) == RET_ERRNO


def test_a_denied_chown_stays_denied() -> None:
    """Pretending comes after the profile."""
    program = compile_profile(Profile(RET_ALLOW, (Rule(("fchown",), EPERM),)), single_uid=True)

    assert run(program, "fchown", 0, 33, 33) == EPERM


EMULATING = compile_profile(
    Profile(RET_ALLOW, (), {"x86_64": ("x86",)}),
    single_uid=True,
)


def test_programs_are_what_the_kernel_takes() -> None:
    """`check` is the kernel's own test: no jump out of the program, a return at the end."""
    check(EMULATING)
    with pytest.raises(ValueError, match="jumps out"):
        check(EMULATING[8:16] + EMULATING[-8:])
    assert errno_of(RET_ALLOW) is None

"""A profile's rules to one BPF program.

libseccomp leaves open what wins when rules for one call overlap, so it never gets to see that:
each of its programs has one action besides the default, and sbx joins them in order:

    multiplexers → rules with conditions, strictest action first → late calls → the other rules

Each hands on what it has no rule for; what ends as "allow" may go through a last program
(`seccomp_emulation`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sandbox.errors import InvalidSpec, Unavailable
from sandbox.linux.seccomp_bpf import (
    JUMP,
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD,
    OFFSET_ARCH,
    OFFSET_NR,
    RET_ALLOW,
    RET_ERRNO,
    RET_TRACE,
    RET_USER_NOTIF,
    RETURN,
    Instruction,
    assemble,
    chain,
    check,
    errno_of,
    replace_returns,
    restrictiveness,
)
from sandbox.linux.seccomp_emulation import emulation
from sandbox.linux.seccomp_library import BAD_ARCHITECTURE, Entry, build, known, resolve
from sandbox.linux.seccomp_profile import Machine, Profile, Rule, permits
from sandbox.linux.seccomp_syscalls import AUDIT_ARCHITECTURES, LATE_CALLS, Native, native

# "No rule here": never leaves the joined program, and no profile can ask for it (TRACE's data
# comes from errnoRet, which ends at 4095).
_PASS = RET_TRACE | 0xFFFF

# On 32-bit x86 these calls hold a family of others, with the arguments in memory that a filter
# can't read; libseccomp lets the whole member pass when a rule allows it for some arguments.
_SOCKET_CALLS = """socket bind connect listen accept getsockname getpeername socketpair send recv
    sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"""
_IPC_CALLS = """semop semget semctl semtimedop msgsnd msgrcv msgget msgctl shmat shmdt shmget
    shmctl"""
_MULTIPLEXERS = {
    "socketcall": frozenset(_SOCKET_CALLS.split()),
    "ipc": frozenset(_IPC_CALLS.split()),
}

# What a container needs that makes containers itself; clone3 stays as the profile has it, because
# its flags are in memory, and libc falls back to clone.
NESTING = (
    *("clone", "unshare", "setns", "chroot", "pivot_root", "sethostname", "setdomainname"),
    *("mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "open_tree_attr"),
    *("fsopen", "fsconfig", "fsmount", "fspick"),
)


class Target(Struct, frozen=True):
    """The architectures a program is for: names and AUDIT_ARCH_* tokens, the native one first."""

    native: Native
    architectures: tuple[tuple[str, int], ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token for _, token in self.architectures)


def this_machine(capabilities: Iterable[str]) -> Machine:
    """Return what the gates of a profile see here. Raises Unavailable."""
    return Machine(_native().go_name, kernel_version(), frozenset(capabilities))


def kernel_version() -> tuple[int, int]:
    """Return the first two numbers of the running kernel's version."""
    found = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def target(profile: Profile) -> Target:
    """Return the architectures of *profile* that this kernel may run, without x32.

    x32 shares the 64-bit calls under other numbers; hardly a kernel has it, nothing uses it, and
    its calls get ENOSYS as on the kernels without it.
    """
    here = _native()
    others = [n for n in profile.architectures.get(here.name, ()) if n in here.others]
    return Target(here, tuple((name, AUDIT_ARCHITECTURES[name]) for name in (here.name, *others)))


def _native() -> Native:
    found = native()
    if found is None:
        raise Unavailable(f"no seccomp filters for {os.uname().machine}")
    return found


def nesting(profile: Profile) -> Profile:
    """Return *profile* with the calls that make namespaces and mounts allowed."""
    rules = [
        replace(rule, names=tuple(name for name in rule.names if name not in NESTING))
        for rule in profile.rules
    ]
    allowed = Rule(NESTING, RET_ALLOW, comment="this container may make containers itself")
    return replace(profile, rules=(*(rule for rule in rules if rule.names), allowed))


def compile_profile(profile: Profile, *, single_uid: bool = False) -> bytes:
    """Return the program for *profile*, whose rules must be those that count here.

    Raises InvalidSpec for a rule that can't be kept, Unavailable without libseccomp.
    """
    _refuse_unknown_denials(profile)
    where = target(profile)
    program = b""
    for stage in (
        *_multiplexers(profile, where),
        *_conditional(profile, where),
        _late_calls(profile, where),
        *_unconditional(profile, where),
    ):
        program = chain(program, stage, on=_PASS) if program else stage
    if single_uid:
        program = chain(program, emulation(where.architectures, resolve), on=RET_ALLOW)
    try:
        check(program)
    except ValueError as err:
        raise InvalidSpec("the seccomp profile can't be compiled", detail=str(err)) from err
    return program


def notifying(program: bytes) -> bytes:
    """Return *program* with a notification in place of every errno it denies with."""

    def notify(action: int) -> int:
        return RET_USER_NOTIF if errno_of(action) else action

    return replace_returns(program, notify)


def _refuse_unknown_denials(profile: Profile) -> None:
    """A call that is not known can't be allowed, which is safe, but not be denied either."""
    if not permits(profile.default):
        return
    for rule in profile.rules:
        for name in rule.names:
            if not (permits(rule.action) or known(name) or name in LATE_CALLS):
                raise InvalidSpec(
                    f"the seccomp profile denies the system call {name}, which is not known here",
                    hint="check its spelling, or update libseccomp2",
                )


def _multiplexers(profile: Profile, where: Target) -> list[bytes]:
    """Keep libseccomp from allowing a multiplexer on behalf of its members."""
    if "x86" not in dict(where.architectures) or permits(profile.default):
        return []
    stages = []
    for name, members in _MULTIPLEXERS.items():
        rules = [rule for rule in profile.rules if name in rule.names and not rule.conditions]
        action = min((rule.action for rule in rules), key=restrictiveness, default=None)
        conditional = any(r.conditions and members.intersection(r.names) for r in profile.rules)
        if action is None and conditional:
            action = profile.default
        if action is not None and not permits(action):
            stages.append(_stage(action, [(name, ())], where))
    return stages


def _conditional(profile: Profile, where: Target) -> list[bytes]:
    by_action: dict[int, list[Entry]] = {}
    for rule in profile.rules:
        if rule.conditions:
            entries = [(name, one) for name in rule.names for one in rule.alternatives()]
            by_action.setdefault(rule.action, []).extend(entries)
    strictest_first = sorted(by_action, key=restrictiveness)
    return [
        _stage(action, entries, where)
        for action in strictest_first
        for entries in _separable(by_action[action])
    ]


def _separable(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Divide *entries* so that libseccomp gets the conditions of each part right.

    It merges the conditions of one call into a tree, and errs there with orderings: "< 0" beside
    "< 4294967296" (2.5.4) loses the second. Equalities it can merge; of the others a program gets
    one for each call.
    """
    parts: list[list[Entry]] = [[]]
    taken: dict[str, int] = {}
    for name, conditions in entries:
        number = 0
        if any(c.operator not in ("EQ", "MASKED_EQ") for c in conditions):
            number = taken[name] = taken.get(name, 0) + 1
        while len(parts) <= number:
            parts.append([])
        parts[number].append((name, conditions))
    return [part for part in parts if part]


def _unconditional(profile: Profile, where: Target) -> list[bytes]:
    """The rules without conditions, and the default behind the last of them."""
    chosen: dict[str, int] = {}
    for rule in profile.rules:
        for name in () if rule.conditions else rule.names:
            if name not in chosen or restrictiveness(rule.action) < restrictiveness(chosen[name]):
                chosen[name] = rule.action
    by_action: dict[int, list[Entry]] = {}
    for name, action in chosen.items():
        by_action.setdefault(action, []).append((name, ()))
    # The last program carries the default; let it be that with the most calls.
    ordered = sorted(by_action, key=lambda action: len(by_action[action])) or [profile.default]
    *first, last = ordered
    stages = [_stage(action, by_action[action], where) for action in first]
    final = build(
        profile.default, last, by_action.get(last, ()), where.tokens, bad_arch=BAD_ARCHITECTURE
    )
    return [*stages, final]


def _stage(action: int, entries: Sequence[Entry], where: Target) -> bytes:
    return build(_PASS, action, entries, where.tokens, bad_arch=_PASS)


def _late_calls(profile: Profile, where: Target) -> bytes:
    """Calls that libseccomp does not know, by number, and ENOSYS for those nobody knows."""
    late: dict[int, int] = {}
    for rule in profile.rules:
        for name in () if rule.conditions else rule.names:
            number = LATE_CALLS.get(name)
            if number is None or resolve(name, where.tokens[0]) is not None:
                continue
            if number not in late or restrictiveness(rule.action) < restrictiveness(late[number]):
                late[number] = rule.action
    blocks = [_late_block(late, token, _newest(profile, token)) for token in where.tokens]
    return assemble([*(i for block in blocks for i in block), (RETURN, 0, 0, _PASS)])


def _late_block(late: dict[int, int], token: int, newest: int | None) -> list[Instruction]:
    body: list[Instruction] = [(LOAD, 0, 0, OFFSET_NR)]
    for number, action in late.items():
        body += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
    if newest is not None:
        body += [(JUMP_GREATER, 0, 1, newest), (RETURN, 0, 0, RET_ERRNO | errno.ENOSYS)]
    body.append((RETURN, 0, 0, _PASS))
    return [(LOAD, 0, 0, OFFSET_ARCH), (JUMP_EQUAL, 1, 0, token), (JUMP, 0, 0, len(body)), *body]


def _newest(profile: Profile, token: int) -> int | None:
    """Return the highest call that *profile* names, where the default would hide newer ones badly.

    A profile written before a call existed means "no such call" by its silence: with EPERM libc
    does not fall back to the older call. runc and crun do the same.
    """
    if permits(profile.default) or profile.default == RET_ERRNO | errno.ENOSYS:
        return None
    names = {name for rule in profile.rules for name in rule.names}
    numbers = [LATE_CALLS.get(name, resolve(name, token)) for name in names]
    return max((n for n in numbers if n is not None and n >= 0), default=None)

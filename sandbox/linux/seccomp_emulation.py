"""Pretended changes of owner, for a user namespace that has one id only.

With a single mapped id (0) the kernel answers every other id with EINVAL, before any file system
is asked (user_namespaces(7)). These programs answer such calls with success, and nothing happens:
apt, dpkg, tar and useradd then go on. What is untrue after that stands in docs/seccomp.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.linux.seccomp_bpf import (
    AND,
    JUMP,
    JUMP_EQUAL,
    LOAD,
    OFFSET_ARCH,
    OFFSET_NR,
    RET_ALLOW,
    RET_ERRNO,
    RETURN,
    Instruction,
    assemble,
    low_word,
)

Resolve = Callable[[str, int], int | None]  # name and token to number

SUCCEED = RET_ERRNO | 0

# Call → the arguments that are ids. Without ids: always pretended.
ID_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "chown": (1, 2),
    "fchown": (1, 2),
    "lchown": (1, 2),
    "fchownat": (2, 3),
    "setuid": (0,),
    "setgid": (0,),
    "setreuid": (0, 1),
    "setregid": (0, 1),
    "setresuid": (0, 1, 2),
    "setresgid": (0, 1, 2),
    "setfsuid": (0,),
    "setfsgid": (0,),
    "setgroups": (),
}
# Architectures whose plain calls take 16-bit ids and have a second call with the suffix 32.
_SHORT_IDS = ("x86", "arm")
_UNCHANGED = 0xFFFFFFFF  # (uid_t) -1: leave this id as it is


def emulation(architectures: Sequence[tuple[str, int]], resolve: Resolve) -> bytes:
    """Return the program for *architectures* (name and token): succeed, or allow."""
    blocks = [_architecture(name, token, resolve) for name, token in architectures]
    return assemble([*(i for block in blocks for i in block), (RETURN, 0, 0, RET_ALLOW)])


def _architecture(name: str, token: int, resolve: Resolve) -> list[Instruction]:
    body: list[Instruction] = [(LOAD, 0, 0, OFFSET_NR)]
    for call, arguments in ID_ARGUMENTS.items():
        short = name in _SHORT_IDS and call != "fchownat"
        body += _call(resolve(call, token), arguments, 16 if short else 32)
        if short:
            body += _call(resolve(f"{call}32", token), arguments, 32)
    body.append((RETURN, 0, 0, RET_ALLOW))
    # A jump with a condition reaches 255 instructions, and a block may be longer.
    return [(LOAD, 0, 0, OFFSET_ARCH), (JUMP_EQUAL, 1, 0, token), (JUMP, 0, 0, len(body)), *body]


def _call(number: int | None, arguments: Sequence[int], bits: int) -> list[Instruction]:
    if number is None or number < 0:
        return []
    tests = [_id(argument, bits) for argument in arguments]
    body: list[Instruction] = []
    for test in reversed(tests):
        # After each test: the id is 0 or -1, go on with the next; else jump to `succeed`, which
        # stands behind all the tests and the return for "none of them".
        body = _aim(test, len(body) + (1 if tests else 0)) + body
    if tests:
        body.append((RETURN, 0, 0, RET_ALLOW))
    body.append((RETURN, 0, 0, SUCCEED))
    return [(JUMP_EQUAL, 0, len(body), number), *body]


def _id(argument: int, bits: int) -> list[Instruction]:
    # Ids are 32-bit (or 16-bit) values in 64-bit registers: the kernel ignores the upper bits.
    load: list[Instruction] = [(LOAD, 0, 0, low_word(argument))]
    if bits == 16:
        load.append((AND, 0, 0, 0xFFFF))
    return [*load, (JUMP_EQUAL, 1, 0, 0), (JUMP_EQUAL, 0, 0, _UNCHANGED >> (32 - bits))]


def _aim(test: list[Instruction], distance: int) -> list[Instruction]:
    code, jt, _, k = test[-1]
    return [*test[:-1], (code, jt, distance, k)]

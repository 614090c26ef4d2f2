"""Classic BPF programs as seccomp(2) takes them: reading, joining and running them.

A program is a byte string of `struct sock_filter` (linux/filter.h): code, jt, jf, k. Only the
instructions that the kernel allows for seccomp and that libseccomp or sbx emit are known here.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache

INSTRUCTION = struct.Struct("=HBBI")
DATA = struct.Struct("=iIQ6Q")  # struct seccomp_data (linux/seccomp.h)
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# linux/bpf_common.h: class | size | mode, class | operation | source
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15
JUMP_GREATER = 0x25
JUMP_GREATER_EQUAL = 0x35
JUMP_SET = 0x45
RETURN = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h: the value that a program returns; the low 16 bits are its data.
RET_KILL_PROCESS = 0x80000000
RET_KILL_THREAD = 0x00000000
RET_TRAP = 0x00030000
RET_ERRNO = 0x00050000
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_LOG = 0x7FFC0000
RET_ALLOW = 0x7FFF0000
RET_ACTION = 0xFFFF0000
RET_DATA = 0x0000FFFF

OFFSET_NR = 0
OFFSET_ARCH = 4

Instruction = tuple[int, int, int, int]

_TESTS: dict[int, Callable[[int, int], bool]] = {
    JUMP_EQUAL: lambda a, k: a == k,
    JUMP_GREATER: lambda a, k: a > k,
    JUMP_GREATER_EQUAL: lambda a, k: a >= k,
    JUMP_SET: lambda a, k: bool(a & k),
}


def errno_of(action: int) -> int | None:
    """Return the errno with which *action* answers, or None when it is another action."""
    return action & RET_DATA if action & RET_ACTION == RET_ERRNO else None


def restrictiveness(action: int) -> int:
    """Return a key that sorts the most restrictive action first, as the kernel ranks them.

    The kernel leaves two errnos equal; here the smaller one goes first, whatever the order.
    """
    return action - (1 << 32) if action & 0x80000000 else action


def low_word(argument: int) -> int:
    """Return the offset of the low 32 bits of argument number *argument* in seccomp_data."""
    return 16 + 8 * argument + (0 if sys.byteorder == "little" else 4)


def assemble(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in instructions)


def disassemble(program: bytes) -> list[Instruction]:
    """Return the instructions of *program*. Raises ValueError when its length can't be right."""
    if not program or len(program) % INSTRUCTION.size:
        raise ValueError(f"a seccomp program can't have {len(program)} bytes")
    return list(INSTRUCTION.iter_unpack(program))


@lru_cache(maxsize=8)
def _disassembled(program: bytes) -> list[Instruction]:
    return disassemble(program)


def check(program: bytes) -> None:
    """Raise ValueError unless the kernel would take *program* (net/core/filter.c)."""
    instructions = disassemble(program)
    count = len(instructions)
    if count > MAX_INSTRUCTIONS:
        raise ValueError(f"{count} instructions, and the kernel takes {MAX_INSTRUCTIONS}")
    if instructions[-1][0] != RETURN:
        raise ValueError("the last instruction is not a return")
    for position, (code, jt, jf, k) in enumerate(instructions):
        if code == JUMP:
            furthest = k
        elif code in _TESTS:
            furthest = max(jt, jf)
        elif code in (RETURN, AND) or (code == LOAD and k % 4 == 0 and k < DATA.size):
            continue
        else:
            raise ValueError(f"instruction {position} is {code:#x} with {k:#x}")
        if position + 1 + furthest >= count:
            raise ValueError(f"instruction {position} jumps out of the program")


def replace_returns(program: bytes, replacement: Callable[[int], int]) -> bytes:
    """Return *program* with `replacement(value)` for every value that it may return."""
    return assemble(
        (code, jt, jf, replacement(k) if code == RETURN else k)
        for code, jt, jf, k in disassemble(program)
    )


def chain(first: bytes, second: bytes, *, on: int) -> bytes:
    """Return one program that runs *first*, and *second* where *first* would return *on*."""
    instructions = disassemble(first)
    count = len(instructions)
    # A jump is as long as the return that it replaces, so every other jump stays right.
    joined = [
        (JUMP, 0, 0, count - position - 1) if (code, k) == (RETURN, on) else (code, jt, jf, k)
        for position, (code, jt, jf, k) in enumerate(instructions)
    ]
    return assemble(joined) + second


def evaluate(program: bytes, nr: int, arch: int, args: Iterable[int], pointer: int = 0) -> int:
    """Run *program* on one system call and return the action with its data.

    Raises ValueError for an instruction that is not known here and IndexError when the program
    runs off its end; the kernel would have refused both.
    """
    data = DATA.pack(nr, arch, pointer, *args)
    instructions = _disassembled(program)
    accumulator = 0
    position = 0
    while True:
        code, jt, jf, k = instructions[position]
        position += 1
        if code == LOAD:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code in _TESTS:
            position += jt if _TESTS[code](accumulator, k) else jf
        elif code == JUMP:
            position += k
        elif code == AND:
            accumulator &= k
        elif code == RETURN:
            return k
        else:
            raise ValueError(f"instruction {position - 1} is {code:#x}")

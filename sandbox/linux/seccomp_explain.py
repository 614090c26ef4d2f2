"""What a seccomp filter denied, in words: the call, the program, the rule (`sbx run --explain`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from sandbox.linux import seccomp
from sandbox.linux.seccomp_bpf import errno_of, evaluate
from sandbox.linux.seccomp_notify import Notification, syscall_name
from sandbox.linux.seccomp_profile import Profile, Rule

_FALLBACK_ERRNO = errno.EPERM
_MAX_TEXT = 200

# What is worth a name among the arguments: linux/sched.h, bits/socket.h, asm-generic/ioctls.h.
_NAMESPACES = {
    0x00000080: "CLONE_NEWTIME",
    0x00020000: "CLONE_NEWNS",
    0x02000000: "CLONE_NEWCGROUP",
    0x04000000: "CLONE_NEWUTS",
    0x08000000: "CLONE_NEWIPC",
    0x10000000: "CLONE_NEWUSER",
    0x20000000: "CLONE_NEWPID",
    0x40000000: "CLONE_NEWNET",
}
_CSIGNAL = 0xFF  # clone(2): the low byte is a signal, where unshare(2) has CLONE_NEWTIME
_FAMILIES = {1: "UNIX", 2: "INET", 10: "INET6", 15: "KEY", 16: "NETLINK", 17: "PACKET"} | {
    26: "LLC",
    29: "CAN",
    30: "TIPC",
    31: "BLUETOOTH",
    38: "ALG",
    40: "VSOCK",
    44: "XDP",
}
_IOCTLS = {0x5412: "TIOCSTI", 0x541C: "TIOCLINUX", 0x5423: "TIOCSETD"}


class Explanation(Struct, frozen=True):
    """One denied call. *fallback*: answered ENOSYS, so libc or the program goes another way."""

    syscall: str  # "unshare(CLONE_NEWUSER)"
    program: str  # "unshare (/usr/bin/unshare)"
    rule: str  # "denied by default: unshare would create a namespace"
    errno: int
    fallback: bool = False


class Explainer(Struct, frozen=True):
    """Knows a profile and the program that would deny by itself."""

    profile: Profile
    program: bytes  # without notifications
    name: str = "the profile"

    @classmethod
    def of(
        cls,
        profile: bytes,
        *,
        capabilities: frozenset[str],
        cache: Path,
        single_uid: bool = False,
        nest: bool = False,
        source: str = "the profile",
    ) -> Explainer:
        """Return the explainer for what `compile_filter` made of the same arguments."""
        from sandbox.linux.seccomp_compile import nesting, this_machine
        from sandbox.linux.seccomp_json import parse

        plain = seccomp.compile_filter(
            profile,
            capabilities=capabilities,
            cache=cache,
            single_uid=single_uid,
            nest=nest,
            source=source,
        )
        parsed = parse(profile, source).for_machine(this_machine(capabilities))
        return cls(nesting(parsed) if nest else parsed, plain.programs[-1], source)

    def explain(self, notification: Notification) -> Explanation:
        """Return what is behind *notification*, with the errno to answer."""
        name = syscall_name(notification.arch, notification.syscall)
        error = self.errno(notification)
        _, rule = self.profile.decide(name, notification.args)
        return Explanation(
            f"{name}({arguments(name, notification.args)})",
            program(notification.pid),
            self._reason(rule, error),
            error,
            error == errno.ENOSYS,
        )

    def errno(self, notification: Notification) -> int:
        """Return the errno that the filter without notifications would have given."""
        action = evaluate(
            self.program,
            notification.syscall,
            notification.arch,
            notification.args,
            notification.instruction_pointer,
        )
        return errno_of(action) or _FALLBACK_ERRNO

    def _reason(self, rule: Rule | None, error: int) -> str:
        code = errno.errorcode.get(error, str(error))
        if rule is not None and errno_of(rule.action) == error:
            reason = rule.comment or f"a rule for {', '.join(rule.names[:3])}"
        elif error == errno.ENOSYS:
            reason = "not a call that it knows"
        else:
            reason = "not among the calls that it allows"
        return f"denied by {self.name}: {reason} ({code})"


def arguments(name: str, args: Sequence[int]) -> str:
    """Return the arguments of call *name* that decide, as text."""
    low = args[0] & 0xFFFFFFFF
    match name:
        case "clone":
            return _flags(low & ~_CSIGNAL)
        case "unshare":
            return _flags(low)
        case "setns":
            return f"{low}, {_flags(args[1] & 0xFFFFFFFF)}"
        case "socket" | "socketpair":
            family = _FAMILIES.get(low, str(low))
            return f"AF_{family}, {args[1]:#x}, {args[2]}" if low in _FAMILIES else family
        case "ioctl":
            request = args[1] & 0xFFFFFFFF
            return f"{low}, {_IOCTLS.get(request, hex(request))}"
        case "personality":
            return hex(low)
    return ""


def _flags(value: int) -> str:
    names = [name for bit, name in _NAMESPACES.items() if value & bit]
    rest = value & ~sum(_NAMESPACES)
    return "|".join([*names, *([hex(rest)] if rest or not names else [])])


def program(pid: int) -> str:
    """Return the name and the file of process *pid*, fit for a terminal: both are its own words."""
    comm = _words(lambda: Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n"))
    exe = _words(lambda: os.readlink(os.fsencode(f"/proc/{pid}/exe")))
    if exe and os.path.basename(exe) == comm:
        return exe
    return f"{comm} ({exe})" if exe else comm or f"process {pid}"


def _words(read: Callable[[], bytes]) -> str:
    try:
        raw = read()
    except OSError:
        return ""
    text = raw.decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_TEXT]

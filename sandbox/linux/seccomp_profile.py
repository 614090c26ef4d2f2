"""What a seccomp profile is, and what it says about a call.

The data of docker's format (`seccomp_json` reads it). Where rules for one call overlap, sbx says
what that format leaves open: a rule with conditions goes before one without, and among the rules
whose conditions hold the most restrictive action wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from sandbox.linux.seccomp_bpf import RET_ACTION, RET_ALLOW, RET_LOG, restrictiveness

OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")  # in the order of seccomp.h, from 1


class Condition(Struct, frozen=True):
    """`argument[index] operator value`; MASKED_EQ: `argument & value == value_two`."""

    index: int
    operator: str
    value: int
    value_two: int = 0

    def holds(self, args: Sequence[int]) -> bool:
        argument = args[self.index]
        match self.operator:
            case "NE":
                return argument != self.value
            case "LT":
                return argument < self.value
            case "LE":
                return argument <= self.value
            case "EQ":
                return argument == self.value
            case "GE":
                return argument >= self.value
            case "GT":
                return argument > self.value
            case _:
                return argument & self.value == self.value_two


class Gate(Struct, frozen=True):
    """When a rule counts (`includes`, all of it) or does not (`excludes`, any of it)."""

    capabilities: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()  # Go's names: amd64, arm64 …
    kernel: tuple[int, int] | None = None


class Rule(Struct, frozen=True):
    """What happens to the calls *names* when every one of *conditions* holds."""

    names: tuple[str, ...]
    action: int  # SECCOMP_RET_* with its data
    conditions: tuple[Condition, ...] = ()
    includes: Gate = Gate()
    excludes: Gate = Gate()
    comment: str = ""

    def counts(self, machine: Machine) -> bool:
        """True when *machine* passes the gates (docker's loader in profiles/seccomp)."""
        inside, outside = self.includes, self.excludes
        if inside.architectures and machine.architecture not in inside.architectures:
            return False
        if inside.kernel is not None and machine.kernel < inside.kernel:
            return False
        if machine.architecture in outside.architectures:
            return False
        if outside.kernel is not None and machine.kernel >= outside.kernel:
            return False
        return machine.capabilities.issuperset(
            inside.capabilities
        ) and machine.capabilities.isdisjoint(outside.capabilities)

    def alternatives(self) -> tuple[tuple[Condition, ...], ...]:
        """Return sets of conditions, one of which has to hold.

        Two conditions on one argument can't be one rule of libseccomp; runc and crun then take
        every condition of the rule as an alternative, and profiles count on it.
        """
        indexes = [condition.index for condition in self.conditions]
        if len(set(indexes)) == len(indexes):
            return (self.conditions,)
        return tuple((condition,) for condition in self.conditions)

    def matches(self, args: Sequence[int]) -> bool:
        return any(all(c.holds(args) for c in one) for one in self.alternatives())


class Machine(Struct, frozen=True):
    """What the gates of a profile look at."""

    architecture: str  # Go's name
    kernel: tuple[int, int]
    capabilities: frozenset[str]


class Profile(Struct, frozen=True):
    """A parsed profile; *rules* are those that count once `for_machine` has been asked."""

    default: int  # SECCOMP_RET_* with its data
    rules: tuple[Rule, ...] = ()
    # native architecture → the others whose calls the kernel takes too (SCMP_ARCH_* in small
    # letters without the prefix: x86_64, x86 …)
    architectures: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def for_machine(self, machine: Machine) -> Profile:
        rules = tuple(rule for rule in self.rules if rule.counts(machine))
        return Profile(self.default, rules, self.architectures)

    def decide(self, name: str, args: Sequence[int]) -> tuple[int, Rule | None]:
        """Return the action for one call, and the rule behind it (None: the default)."""
        rules = [rule for rule in self.rules if name in rule.names]
        with_conditions = [r for r in rules if r.conditions and r.matches(args)]
        matching = with_conditions or [r for r in rules if not r.conditions]
        if not matching:
            return self.default, None
        rule = min(matching, key=lambda rule: restrictiveness(rule.action))
        return rule.action, rule


def permits(action: int) -> bool:
    """True when the call is carried out under *action*."""
    return action & RET_ACTION in (RET_ALLOW, RET_LOG)

"""What a process still may after it has given its capabilities up."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from sandbox.linux import capabilities
from sandbox.linux.capabilities import DEFAULT, mask
from tests.kernel.user_namespace import as_root


def status(text: str) -> dict[str, int]:
    """The five sets of proc(5)'s /proc/PID/status."""
    lines = [line.split() for line in text.splitlines() if line.startswith("Cap")]
    return {name.strip(":"): int(value, 16) for name, value in lines}


def executed() -> dict[str, int]:
    """The sets of a program that is executed now."""
    return status(subprocess.check_output(["/bin/cat", "/proc/self/status"], text=True))


def test_root_keeps_what_it_was_given_and_so_do_its_programs() -> None:
    """Effective, permitted and bounding hold the capabilities; inheritable and ambient nothing."""

    def drop() -> dict[str, int]:
        capabilities.drop_privileges(0, 0, (), DEFAULT)
        return executed()

    keep = mask(DEFAULT)
    assert as_root(drop) == {
        "CapInh": 0,
        "CapPrm": keep,
        "CapEff": keep,
        "CapBnd": keep,
        "CapAmb": 0,
    }


def test_without_capabilities_root_is_nobody_special() -> None:
    """Every set is empty, and a change of ids is refused."""

    def drop() -> list[Any]:
        capabilities.drop_privileges(0, 0, None, frozenset())
        try:
            os.setgroups([])
        except PermissionError:
            refused = True
        else:
            refused = False
        return [executed(), refused]

    sets, refused = as_root(drop)
    assert set(sets.values()) == {0}
    assert refused


def test_apply_gives_other_users_nothing_but_the_bounding_set() -> None:
    """As docker and podman: no ambient capabilities for them."""

    def drop() -> dict[str, int]:
        capabilities.apply(frozenset({"CAP_KILL"}), uid_is_root=False)
        with open("/proc/self/status") as file:
            return status(file.read())

    sets = as_root(drop)
    assert sets == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapBnd": mask(["CAP_KILL"]),
        "CapAmb": 0,
    }


def test_securebits_and_ambient_capabilities_do_not_survive() -> None:
    """What an outer program left set can't bring capabilities back."""

    def drop() -> list[Any]:
        effective, permitted, _ = capabilities.capget()
        capabilities.capset(effective, permitted, permitted)
        capabilities.prctl(capabilities.PR_CAP_AMBIENT, 2, 21)  # PR_CAP_AMBIENT_RAISE, SYS_ADMIN
        capabilities.prctl(capabilities.PR_SET_SECUREBITS, 1 << 2)  # NO_SETUID_FIXUP
        capabilities.drop_privileges(0, 0, (), frozenset({"CAP_CHOWN"}))
        return [executed(), capabilities.prctl(27)]  # PR_GET_SECUREBITS

    sets, securebits = as_root(drop)
    only = mask(["CAP_CHOWN"])
    assert sets == {"CapInh": 0, "CapPrm": only, "CapEff": only, "CapBnd": only, "CapAmb": 0}
    assert securebits == 0


def test_the_kernel_s_capabilities_are_known() -> None:
    """A capability without a name here would still be dropped, but could not be given."""
    assert capabilities.last() < len(capabilities.NUMBERS)
    assert capabilities.bounding() >> capabilities.last() + 1 == 0

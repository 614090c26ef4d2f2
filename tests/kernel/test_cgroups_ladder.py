"""Limits on a machine that delegates no cgroup: enforced otherwise, refused or weakened aloud."""

from __future__ import annotations

import pytest

from sandbox.errors import Unenforceable
from sandbox.linux import cgroups, process_count
from sandbox.spec import Limits, Ulimit

ID = "0123456789ab" + 52 * "0"
NO_SYSTEMD: dict[str, str] = {}


@pytest.fixture(autouse=True)
def undelegated() -> None:
    if cgroups.discover(enable=False) is not None:
        pytest.skip("needs a user without a delegated cgroup")


@pytest.mark.parametrize("name", ["memory", "cpus", "cpuset_cpus"])
def test_a_limit_that_nothing_enforces_is_an_error(name: str) -> None:
    """What was asked for is enforced or the container does not start."""
    values = {"memory": 64 << 20, "cpus": 0.5, "cpuset_cpus": "0"}
    limits = Limits(**{name: values[name], "required": (name,)})  # type: ignore[arg-type]

    with pytest.raises(Unenforceable) as caught:
        cgroups.prepare(ID, limits, environ=NO_SYSTEMD)

    assert "not enforceable on this machine" in caught.value.message
    assert "no cgroup v2 subtree is delegated" in (caught.value.detail or "")
    assert "--cgroups=best-effort" in (caught.value.hint or "")


def test_the_number_of_processes_is_held_without_a_cgroup() -> None:
    """With a single uid RLIMIT_NPROC counts the whole container, so the limit is enforced."""
    limits = Limits(pids=9, required=("pids",))

    prepared = cgroups.prepare(ID, limits, uids_fixed=True, environ=NO_SYSTEMD)

    assert prepared.ulimits == (Ulimit("nproc", 9, 9),)
    assert prepared.enforcement.enforced == (("pids", "rlimit RLIMIT_NPROC"),)
    assert prepared.cgroup is None


def test_the_number_of_processes_of_many_ids_is_held_without_a_cgroup() -> None:
    """Where processes can change their uid, a user namespace between holds them all together."""
    if not process_count.POSSIBLE:
        pytest.skip("needs Linux 5.14")
    limits = Limits(pids=9, required=("pids",))

    prepared = cgroups.prepare(ID, limits, environ=NO_SYSTEMD)

    assert prepared.processes == 9
    assert "RLIMIT_NPROC" in dict(prepared.enforcement.enforced)["pids"]
    assert prepared.enforcement.missing == ()


def test_best_effort_says_what_it_does_not_enforce() -> None:
    """Each limit that is not held is a warning that says what is done instead."""
    limits = Limits(memory=64 << 20, cpus=0.5, cpuset_cpus="0", pids=9)

    prepared = cgroups.prepare(ID, limits, "best-effort", environ=NO_SYSTEMD)

    assert [warning.split()[0] for warning in prepared.warnings] == [
        *("--memory", "--cpus", "--cpuset-cpus")
    ]
    assert prepared.ulimits == (Ulimit("nproc", 9, 9), Ulimit("data", 64 << 20, 64 << 20))
    assert prepared.cpus == {0}


def test_a_limit_of_nobody_s_asking_is_no_error() -> None:
    """A default that can't be enforced is recorded and does not stop the container."""
    prepared = cgroups.prepare(ID, Limits(memory=64 << 20), environ=NO_SYSTEMD)

    assert [name for name, _ in prepared.enforcement.missing] == ["memory"]


def test_disabled_cgroups_do_not_hide_a_limit() -> None:
    """--cgroups=disabled with a limit asked for is a contradiction."""
    limits = Limits(memory=64 << 20, required=("memory",))

    with pytest.raises(Unenforceable, match="--memory"):
        cgroups.prepare(ID, limits, "disabled", environ=NO_SYSTEMD)


def test_without_limits_nothing_is_asked_of_systemd() -> None:
    """A container without limits starts without a cgroup where none is delegated."""
    prepared = cgroups.prepare(ID, Limits(), environ=NO_SYSTEMD)

    assert prepared.cgroup is None
    assert prepared.warnings == ()

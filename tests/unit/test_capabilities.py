"""Names of capabilities and docker's --cap-add and --cap-drop."""

from __future__ import annotations

import pytest

from sandbox.errors import InvalidSpec
from sandbox.linux.capabilities import ALL, DEFAULT, NUMBERS, mask, names_of, normalize, resolve


def test_numbers_are_the_kernel_s() -> None:
    """A few from each end of linux/capability.h."""
    assert len(NUMBERS) == 41
    assert NUMBERS["CAP_CHOWN"] == 0
    assert NUMBERS["CAP_NET_RAW"] == 13
    assert NUMBERS["CAP_SYS_ADMIN"] == 21
    assert NUMBERS["CAP_SETFCAP"] == 31
    assert NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


@pytest.mark.parametrize("name", ["net_raw", "NET_RAW", "CAP_NET_RAW", " cap_net_raw "])
def test_a_name_may_be_written_in_many_ways(name: str) -> None:
    """As docker takes them."""
    assert normalize(name) == "CAP_NET_RAW"


def test_an_unknown_name_is_refused() -> None:
    """Also where it would only be dropped."""
    with pytest.raises(InvalidSpec, match="no such capability: NET_ROW"):
        resolve([], ["NET_ROW"], DEFAULT)


def test_adding_and_dropping_follow_docker() -> None:
    """Drop first and then add; ALL in one list makes the other the exception."""
    assert len(DEFAULT) == 11
    assert resolve([], [], DEFAULT) == DEFAULT
    assert resolve(["net_raw"], ["CHOWN"], DEFAULT) == DEFAULT - {"CAP_CHOWN"} | {"CAP_NET_RAW"}
    assert resolve(["all"], ["SYS_ADMIN"], DEFAULT) == ALL - {"CAP_SYS_ADMIN"}
    assert resolve(["KILL"], ["ALL"], DEFAULT) == {"CAP_KILL"}
    assert resolve(["net_raw,net_admin"], ["CAP_ALL"], DEFAULT) == {"CAP_NET_RAW", "CAP_NET_ADMIN"}
    with pytest.raises(InvalidSpec, match="contradict"):
        resolve(["ALL"], ["ALL"], DEFAULT)


def test_a_mask_has_the_bit_of_each_name() -> None:
    """And back."""
    assert mask(["CAP_CHOWN", "CAP_NET_RAW"]) == 1 | 1 << 13
    assert names_of(mask(DEFAULT)) == DEFAULT

"""Id maps as data."""

from __future__ import annotations

import pytest

from sandbox.linux.idmap import Map, Range, auto_map, keep_id_map, root_map, span, split

# A user 1000 with subordinate ids above the own one, and one (from a directory service) below.
USUAL = (Range(0, 1000, 1), Range(1, 100000, 65536))
HIGH_USER = (Range(0, 2000000, 1), Range(1, 100000, 65536))


@pytest.mark.parametrize(
    ("wanted", "parent", "expected"),
    [
        (root_map(65537), USUAL, (0, 65536)),
        (auto_map(65537), USUAL, (0, 65535)),
        (keep_id_map(65537, 1000), USUAL, (1000, 65536)),
        (root_map(1), (Range(0, 1000, 1),), (0, 0)),
        # The last one outside is the first one inside: a range from 1 to 0 is none.
        (root_map(65537), HIGH_USER, (1, 1)),
        (keep_id_map(65537, 1000), HIGH_USER, (0, 1000)),
    ],
)
def test_a_span_never_runs_backwards(wanted: Map, parent: Map, expected: tuple[int, int]) -> None:
    """The ends are ids of the map, in order inside and outside."""
    assert span(split(wanted, parent), parent) == expected

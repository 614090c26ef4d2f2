"""Listings: tables, JSON, templates, times and sizes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cli import human
from sandbox.cli.filters import has_labels, parse_filters
from sandbox.cli.formatting import Listing, print_listing, print_object
from sandbox.cli.templates import TemplateError
from sandbox.errors import UsageError

LISTING = Listing({"ID": "CONTAINER ID", "Names": "NAMES", "Label": str}, ("ID", "Names"))
ROWS = [
    {"ID": "0123456789ab", "Names": "web", "Label": lambda key: f"<{key}>"},
    {"ID": "ba9876543210", "Names": "a_longer_name", "Label": lambda key: ""},
]
DEFAULT = """\
CONTAINER ID   NAMES
0123456789ab   web
ba9876543210   a_longer_name
"""


@pytest.mark.parametrize("form", [None, "table", "table {{.ID}}\\t{{.Names}}"])
def test_a_table_has_headings_and_aligned_columns(
    form: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default and the spelled-out table are the same."""
    print_listing(LISTING, ROWS, form)

    assert capsys.readouterr().out == DEFAULT


def test_a_table_can_compute_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """Headings follow the fields through functions, as in docker."""
    print_listing(LISTING, ROWS[:1], 'table {{upper .Names}}\\t{{.Label "x"}}')

    assert capsys.readouterr().out == "NAMES     x\nWEB       <x>\n"


def test_quiet_prints_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet prints one id a line and nothing else."""
    print_listing(LISTING, ROWS, None, quiet=True)

    assert capsys.readouterr().out == "0123456789ab\nba9876543210\n"


def test_json_prints_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """--format json prints rows that other programs can read one by one."""
    print_listing(LISTING, [{"ID": "1", "Names": "x"}], "json")

    assert json.loads(capsys.readouterr().out) == {"ID": "1", "Names": "x"}


def test_methods_are_no_part_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What templates can call does not show in JSON."""
    print_listing(LISTING, ROWS[:1], "json")

    assert json.loads(capsys.readouterr().out) == {"ID": "0123456789ab", "Names": "web"}


def test_a_table_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A name can't move the cursor or set the terminal's title."""
    print_listing(LISTING, [{"ID": "\x1b]0;owned\x07", "Names": "a\rb\x9b2J"}], None)

    out = capsys.readouterr().out
    assert not any(c in out for c in "\x1b\x07\r\x9b")


def test_an_unknown_field_is_an_error() -> None:
    """A column that does not exist is not silently empty."""
    with pytest.raises(TemplateError):
        print_listing(LISTING, ROWS, "table {{.Nope}}")


def test_an_object_is_printed_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """One value goes through a template or becomes JSON."""
    print_object({"A": 1}, "{{.A}}\\t!")
    print_object({"A": 1}, "json")

    assert capsys.readouterr().out == '1\t!\n{"A":1}\n'


# docker/go-units
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (49 * 3600, "2 days"),
        (15 * 86400, "2 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_are_in_dockers_words(seconds: float, text: str) -> None:
    """`ps` says how long as docker says it."""
    assert human.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234567, "1.23MB"), (10**10, "10GB")],
)
def test_sizes_are_in_dockers_units(count: int, text: str) -> None:
    """Sizes are in powers of 1000 with three digits."""
    assert human.size(count) == text


@given(st.integers(0, 10**18))
def test_a_size_is_never_in_the_exponent_form(count: int) -> None:
    """No size looks like 1e+03kB."""
    assert "e" not in human.size(count)


def test_filters_are_read_by_key() -> None:
    """Values of one key are gathered, unknown keys are guessed."""
    assert parse_filters(["name=a", "name=b", "label=x=y"], ("name", "label")) == {
        "name": ["a", "b"],
        "label": ["x=y"],
    }
    with pytest.raises(UsageError) as caught:
        parse_filters(["nmae=a"], ("name",))
    assert caught.value.hint == "did you mean name?"
    with pytest.raises(UsageError):
        parse_filters(["name"], ("name",))


def test_every_label_must_match() -> None:
    """Labels narrow: a key alone, or with its value."""
    labels = {"a": "1", "b": ""}
    assert has_labels(labels, ["a", "b", "a=1"])
    assert not has_labels(labels, ["a=2"])
    assert not has_labels(labels, ["a", "c"])

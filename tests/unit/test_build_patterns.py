"""`.dockerignore`, --exclude, and wildcards of COPY."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.build.patterns import (
    IgnoreRules,
    PatternError,
    compile_pattern,
    has_wildcards,
    parse_ignore_file,
)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.go", "a.go", True),
        ("*.go", "d/a.go", False),
        ("d/*", "d/a/b", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a]x", "/x", False),
        (r"\*", "*", True),
        (r"[\]]", "]", True),
        ("a**b", "axxb", True),
    ],
)
def test_wildcards_are_those_of_gos_filepath_match(pattern: str, path: str, matches: bool) -> None:
    """A wildcard never matches a slash."""
    assert bool(compile_pattern(pattern).fullmatch(path)) == matches


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[a-", "a\\", "[-]", "[^]"])
def test_a_wrong_pattern_is_an_error(pattern: str) -> None:
    """As in Go: ErrBadPattern."""
    with pytest.raises(PatternError):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*.log"], "a.log", True),
        (["*.log"], "d/a.log", False),
        (["**/*.log"], "d/e/a.log", True),
        (["**/*.log"], "a.log", True),
        (["d"], "d/e/f", True),
        (["/d/"], "d", True),
        (["d/**"], "d/x/y", True),
        (["d/**"], "d", False),
        (["*", "!src"], "src/a", False),
        (["*", "!src", "src/no"], "src/no", True),
        (["!a", "*"], "a", True),
        (["./a/../b"], "b", True),
        (["a/**/z"], "a/z", True),
        (["a/**/z"], "a/b/c/z", True),
    ],
)
def test_the_last_rule_that_matches_decides(patterns: list[str], path: str, ignored: bool) -> None:
    """A rule for a directory holds for all below it."""
    assert IgnoreRules(patterns).ignores(path) == ignored


@pytest.mark.parametrize(
    ("pattern", "directory", "possible"),
    [
        ("!src", "node_modules", False),
        ("!src/a", "src", True),
        ("!src/a", "src/a", False),
        ("!*/keep", "any", True),
        ("!*/keep", "any/other", False),
        ("!**/keep", "any/other", True),
        ("!a/**/keep", "b/c", False),
        ("!a/**/keep", "a/c/d", True),
        ("src/a", "src", False),
    ],
)
def test_only_where_an_exception_is_possible_is_looked_for_one(
    pattern: str, directory: str, possible: bool
) -> None:
    """So a large directory that is ignored costs nothing."""
    assert IgnoreRules(["*", pattern]).may_except_below(directory) == possible


def test_comments_and_blanks_of_an_ignore_file_are_no_patterns() -> None:
    """A byte order mark is none either."""
    data = "\ufeff# comment\n\n  a  \n.\n!b\r\n".encode()

    assert parse_ignore_file(data) == ["a", "!b"]


TEXT = st.text(alphabet="ab/*?[]^-\\!.# \n\r{}()|+$é\x00", max_size=30)


@given(TEXT, TEXT)
def test_any_pattern_is_used_or_a_clear_error(pattern: str, path: str) -> None:
    """Whatever stands in a .dockerignore or a COPY."""
    has_wildcards(pattern)
    try:
        compile_pattern(pattern).fullmatch(path)
    except PatternError:
        pass


@given(st.binary(max_size=80), TEXT)
def test_any_ignore_file_is_used_or_a_clear_error(data: bytes, path: str) -> None:
    """Bytes that are no text, too."""
    try:
        IgnoreRules(parse_ignore_file(data)).ignores(path)
    except PatternError:
        pass

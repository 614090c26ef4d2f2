"""Variables and quotes in a Dockerfile's words, as BuildKit's lexer reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.build.words import WordError, expand, expand_text, expand_words

VARIABLES = {"x": "abc", "e": "", "f": "a.b.c", "w": "a b", "s": "a*c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x", "abc"),
        ("${x}d", "abcd"),
        ("$xd", ""),
        ('"$x y"', "abc y"),
        ("'$x'", "$x"),
        (r"\$x", "$x"),
        (r'"\$x \"q\" \n"', r'$x "q" \n'),
        ("${u:-d}", "d"),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${x:+y}", "y"),
        ("${e:+y}", ""),
        ("${e+y}", "y"),
        ("${u+y}", ""),
        ("${u:-${x}}", "abc"),
        ("${u:-'$x'}", "$x"),
        ("${f#*.}", "b.c"),
        ("${f##*.}", "c"),
        ("${f%.*}", "a.b"),
        ("${f%%.*}", "a"),
        ("${f#?}", ".b.c"),
        (r"${s#a\*}", "c"),
        ("${f/./-}", "a-b.c"),
        ("${f//./-}", "a-b-c"),
        ("${f//./}", "abc"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1$@", ""),
        ("a\\", "a"),
    ],
)
def test_a_word_is_expanded(text: str, expected: str) -> None:
    """The documented forms, and how they nest."""
    assert expand(text, VARIABLES) == expected


@pytest.mark.parametrize(
    "text", ["${x", "${", "${}", "'a", '"a', "${x:5}", "${x:", "${x:-", "${x/a", "${u:?}", "${u?m}"]
)
def test_what_has_no_meaning_is_an_error(text: str) -> None:
    """And says what is wrong."""
    with pytest.raises(WordError):
        expand(text, VARIABLES)


def test_the_message_of_a_missing_variable_is_the_dockerfiles() -> None:
    """`${name:?message}` fails with the message."""
    with pytest.raises(WordError, match="u: set it"):
        expand("${u:?set it}", VARIABLES)


def test_another_escape_character() -> None:
    """With `# escape=` a backslash is an ordinary character."""
    assert expand("C:\\x`$y", VARIABLES, "`") == "C:\\x$y"


def test_words_are_split_by_what_is_not_quoted() -> None:
    """A variable's value may be several words."""
    assert expand_words('$w "$w" c\\ d', VARIABLES) == ["a", "b", "a b", "c d"]


def test_quotes_are_text_in_a_here_document() -> None:
    """Only variables are replaced there."""
    assert expand_text("\"$x\" '$x' \\$x", VARIABLES) == "\"abc\" 'abc' $x"


PIECES = st.sampled_from([*"${}:-+?#%/'\"\\`ab*? .@0", "${x", "$x", "${f%", ":-", "//"])


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=25).map("".join)))
def test_anything_is_expanded_or_a_clear_error(text: str) -> None:
    """No input makes the lexer fail in another way, or run long."""
    for escape in "\\`":
        try:
            assert isinstance(expand(text, VARIABLES, escape), str)
            expand_words(text, VARIABLES, escape)
        except WordError:
            pass

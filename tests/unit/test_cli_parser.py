"""Command lines are read as docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cli.parser import Arguments, Command, HelpRequested, Option, parse
from sandbox.errors import UsageError


def _command(
    *, interspersed: bool = False, at_least: int = 0, at_most: int | None = None
) -> Command:
    return Command(
        name="try",
        arguments="[WORD...]",
        summary="A command to try things with",
        run=lambda arguments, context: 0,
        options=(
            Option("interactive", "", "i"),
            Option("tty", "", "t"),
            Option("rm", ""),
            Option("env", "", "e", "list"),
            Option("name", "", kind="value"),
            Option("colour", "", kind="value", choices=("red", "blue")),
        ),
        at_least=at_least,
        at_most=at_most,
        interspersed=interspersed,
    )


def _parse(*argv: str, interspersed: bool = False) -> Arguments:
    return parse(_command(interspersed=interspersed), argv)


@pytest.mark.parametrize(
    "argv",
    [
        ("-it", "-eA=1", "-e", "B=2", "--name", "x"),
        ("-i", "-t", "-e=A=1", "--env", "B=2", "--name=x"),
        ("-tie", "A=1", "--env=B=2", "--name=y", "--name=x", "--interactive=true"),
    ],
)
def test_every_spelling_of_an_option_means_the_same(argv: tuple[str, ...]) -> None:
    """Short, combined, attached and long spellings agree; the last value wins, lists add up."""
    arguments = _parse(*argv)

    assert arguments.flag("interactive")
    assert arguments.flag("tty")
    assert arguments.texts("env") == ("A=1", "B=2")
    assert arguments.text("name") == "x"


def test_what_follows_the_first_argument_belongs_to_the_command() -> None:
    """`run` leaves options after the image to the command that is run."""
    arguments = _parse("-i", "image", "ls", "-t", "--name", "--help")

    assert arguments.positionals == ("image", "ls", "-t", "--name", "--help")
    assert not arguments.flag("tty")


def test_options_may_follow_arguments_where_there_is_no_command() -> None:
    """`rm web -f` is `rm -f web`, and `--` ends the options."""
    arguments = _parse("one", "-t", "two", "--", "-i", interspersed=True)

    assert arguments.positionals == ("one", "two", "-i")
    assert arguments.flag("tty")
    assert not arguments.flag("interactive")


def test_a_flag_can_be_said_to_be_false() -> None:
    """`--rm=false` is told apart from nothing."""
    assert _parse("--rm=false").flag_or_none("rm") is False
    assert _parse().flag_or_none("rm") is None
    assert _parse("--rm", "--rm=0").flag("rm") is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--nope",), "unknown flag: --nope"),
        (("-x",), "unknown shorthand flag: 'x' in -x"),
        (("-itx",), "unknown shorthand flag: 'x' in -itx"),
        (("--name",), "flag needs an argument: --name"),
        (("-e",), "flag needs an argument: 'e' in -e"),
        (("--tty=maybe",), 'invalid argument "maybe" for "-t, --tty" flag'),
        (("--colour=green",), "expected one of red, blue"),
    ],
)
def test_mistakes_are_named(argv: tuple[str, ...], message: str) -> None:
    """A wrong option is an error in docker's words that says where help is."""
    with pytest.raises(UsageError) as caught:
        _parse(*argv)

    assert message in caught.value.message
    assert "sbx try --help" in str(caught.value.hint)
    assert caught.value.exit_code == 125


def test_a_misspelt_option_is_guessed() -> None:
    """The hint names the option that was probably meant."""
    with pytest.raises(UsageError) as caught:
        _parse("--interactiv")

    assert "--interactive" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("at_least", "at_most", "count", "message"),
    [
        (1, None, 0, '"sbx try" requires at least 1 argument.'),
        (2, None, 1, '"sbx try" requires at least 2 arguments.'),
        (1, 1, 2, '"sbx try" requires exactly 1 argument.'),
        (0, 0, 1, '"sbx try" accepts no arguments.'),
        (1, 2, 3, '"sbx try" requires 1 to 2 arguments.'),
    ],
)
def test_the_number_of_arguments_is_checked(
    at_least: int, at_most: int | None, count: int, message: str
) -> None:
    """Too few or too many arguments are an error with the usage line."""
    with pytest.raises(UsageError) as caught:
        parse(_command(at_least=at_least, at_most=at_most), ["word"] * count)

    assert caught.value.message == message
    assert "Usage:  sbx try [OPTIONS] [WORD...]" in str(caught.value.detail)


def test_help_is_asked_for_before_arguments_are_counted() -> None:
    """`--help` works without the arguments that the command needs."""
    with pytest.raises(HelpRequested):
        parse(_command(at_least=3), ["--help"])


@given(st.lists(st.text(max_size=8), max_size=8))
def test_no_command_line_is_more_than_an_error(argv: list[str]) -> None:
    """Whatever is typed is parsed, asks for help, or is a UsageError."""
    try:
        _parse(*argv)
    except (UsageError, HelpRequested):
        pass


@given(st.lists(st.text(max_size=8), max_size=8))
def test_everything_after_two_dashes_is_kept(words: list[str]) -> None:
    """What follows `--` is taken word by word."""
    assert _parse("--", *words).positionals == tuple(words)

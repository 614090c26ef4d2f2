"""From text to instructions and stages: clear errors only."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.build.arguments import BuildArguments
from sandbox.build.errors import BuildError, InstructionError, excerpt
from sandbox.build.instructions import Instruction
from sandbox.build.modes import new_mode
from sandbox.build.mount_flags import read_mounts
from sandbox.build.parse import parse_dockerfile
from sandbox.build.stages import find_target, needed_stages, read_stages


def test_instructions_have_their_lines_and_here_documents() -> None:
    """Also whether a here-document is expanded, which the parser does not say."""
    found = parse_dockerfile(b"FROM a\n\nCOPY <<-'E' <<F /x\n\tone\n\tE\ntwo\nF\nRUN x\n")

    copy = found.instructions[1]
    assert (copy.line, copy.end) == (3, 7)
    assert [(h.name, h.text, h.expand) for h in copy.heredocs] == [
        ("E", "one\n", False),
        ("F", "two\n", True),
    ]
    assert found.instructions[2].line == 8


def test_only_stages_on_the_way_to_the_target_are_needed() -> None:
    """By FROM, COPY --from and RUN --mount=from."""
    text = (
        b"FROM x AS a\nFROM x AS b\nFROM a AS c\nFROM x AS d\nCOPY --from=b / /\n"
        b"RUN --mount=from=c,target=/c true\nFROM d\n"
    )
    stages = read_stages(parse_dockerfile(text), BuildArguments({}, {}))

    assert needed_stages(stages[4], stages) == {0, 1, 2, 3, 4}
    assert needed_stages(find_target("c", stages), stages) == {0, 2}


def test_lines_around_an_error_are_shown_as_buildkit_shows_them() -> None:
    """The ones in question are marked."""
    assert excerpt(["a", "b", "c", "d", "e"], 3, 3).splitlines() == [
        "--------------------",
        "   1 |     a",
        "   2 |     b",
        "   3 | >>> c",
        "   4 |     d",
        "   5 |     e",
        "--------------------",
    ]


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("755", 0o100644, 0o755),
        ("u=rwX,go=rX", 0o100644, 0o644),
        ("u=rwX,go=rX", 0o100744, 0o755),
        ("u=rwX,go=rX", 0o040700, 0o755),
        ("+x", 0o100644, 0o755),
        ("go-rwx", 0o100755, 0o700),
        ("g=u", 0o100750, 0o770),
        ("u+s,+t", 0o100755, 0o5755),
    ],
)
def test_modes_are_read_as_chmod_reads_them(text: str, mode: int, expected: int) -> None:
    """Octal and symbolic."""
    assert new_mode(text, mode) == expected


WORDS = st.sampled_from(
    [
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "LABEL",
        "CMD",
        "ENTRYPOINT",
        "ONBUILD",
        "HEALTHCHECK",
        "EXPOSE",
        "VOLUME",
        "USER",
        "WORKDIR",
        "SHELL",
        "STOPSIGNAL",
        "MAINTAINER",
        "AS",
        "scratch",
        "--from=a",
        "--mount=type=cache,target=/x",
        "--mount=",
        "--chown",
        "--interval=5s",
        "<<EOF",
        "EOF",
        "<<-",
        "\\",
        "\n",
        "\t",
        "a=b",
        "$x",
        "${x:-y}",
        '["a"]',
        "[",
        '"',
        "'",
        "#",
        "escape=`",
        "é",
        "\x00",
    ]
)
TEXT = st.one_of(
    st.binary(max_size=60),
    st.lists(WORDS, max_size=25).map(lambda words: " ".join(words).encode()),
    st.lists(WORDS, max_size=25).map(lambda words: ("FROM a\n" + " ".join(words)).encode()),
)


@settings(max_examples=150, deadline=None)
@example(b"\\")
@given(TEXT)
def test_any_dockerfile_is_read_or_a_clear_error(data: bytes) -> None:
    """Bytes that are no text, instructions in any order."""
    try:
        stages = read_stages(parse_dockerfile(data), BuildArguments({"x": "1"}, {}))
        needed_stages(find_target(None, stages), stages)
    except BuildError:
        pass


@given(st.text(alphabet="abcdefgimnoprstuxy=,/\"' \n0159", max_size=40))
def test_any_mount_is_read_or_a_clear_error(text: str) -> None:
    """Whatever stands after --mount=."""
    instruction = Instruction("RUN", ("x",), (f"--mount={text}",), line=1, end=1)
    try:
        read_mounts(instruction, lambda word: word, "/")
    except InstructionError:
        pass

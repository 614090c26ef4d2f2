"""The checker of the documents' examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.project.console import Example, blocks, matches, run_block

DOCUMENT = """\
# Title

```console
$ echo one
one
$ cat <<END
> two
> END
two
$ true
```

```sh
not run
```
"""


def test_commands_and_outputs_are_read() -> None:
    """Each command comes with its continuation lines, its output and its line number."""
    assert list(blocks(DOCUMENT)) == [
        (
            Example("echo one", ("one",), 4),
            Example("cat <<END\ntwo\nEND", ("two",), 6),
            Example("true", (), 10),
        )
    ]


def test_a_block_without_a_command_is_refused() -> None:
    """Output that belongs to no command is a mistake in the document."""
    with pytest.raises(ValueError, match="line 2: a console block begins with a command"):
        list(blocks("```console\noutput\n```\n"))


@pytest.mark.parametrize(
    ("expected", "actual", "match"),
    [
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a"], [], False),
        ([], [], True),
        ([], ["a"], False),
        (["id ... name"], ["id 0123 name"], True),
        (["id ... name"], ["id 0123", " name"], False),
        (["a", "...", "c"], ["a", "b", "b", "c"], True),
        (["a", "...", "c"], ["a", "c"], True),
        (["..."], [], True),
        (["(a+)*"], ["(a+)*"], True),
        (["a  "], ["a"], True),
    ],
)
def test_output_is_compared_with_wildcards(
    expected: list[str], actual: list[str], match: bool
) -> None:
    """Dots alone on a line stand for any lines, inside a line for any text; all else is literal."""
    assert matches(expected, actual) is match


def test_a_block_is_run_by_one_shell(tmp_path: Path) -> None:
    """Variables and exit codes reach the next command; error output is shown where it comes."""
    commands = ["x=1; echo $x >&2", "printf 'no newline'", "(exit 3)", "echo $? $x"]

    outputs = run_block([Example(each, (), 1) for each in commands], os.environ, tmp_path)

    assert outputs == [["1"], ["no newline"], [], ["3 1"]]

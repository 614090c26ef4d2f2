"""The documents say what is true: examples are run, tests they name exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests.project.console import Example, blocks, matches, run_block
from tests.sbx_command import Sbx

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEST_NAME = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))+")


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def with_examples() -> list[Path]:
    return [path for path in DOCUMENTS if "```console\n" in path.read_text()]


def put_sbx_on_path(sbx: Sbx) -> dict[str, str]:
    """An environment in which ``sbx`` is the command under test, for shells."""
    directory = sbx.directory / "bin"
    directory.mkdir()
    script = directory / "sbx"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(sbx.program)} "$@"\n')
    script.chmod(0o755)
    return sbx.environ | {"PATH": f"{directory}:{sbx.environ['PATH']}", "COLUMNS": "100"}


def difference(example: Example, actual: list[str]) -> str:
    expected = "\n".join(example.output)
    return f"line {example.line}: $ {example.command}\n--- shown\n{expected}\n--- printed\n" + (
        "\n".join(actual)
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", with_examples(), ids=name)
def test_examples_print_what_is_shown(document: Path, sbx: Sbx, tmp_path: Path) -> None:
    """Every command in a console block, run in order, prints what the document shows."""
    environ = put_sbx_on_path(sbx)
    wrong: list[str] = []
    for examples in blocks(document.read_text()):
        with sbx.mark.inherited():
            outputs = run_block(examples, environ, tmp_path)
        wrong += [
            difference(example, output)
            for example, output in zip(examples, outputs, strict=True)
            if not matches(example.output, output)
        ]

    assert not wrong, "\n\n".join(wrong)


def test_the_readme_has_examples() -> None:
    """The front door shows real commands with their real output."""
    assert list(blocks((ROOT / "README.md").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_tests_that_a_document_names_exist(document: Path) -> None:
    """A claim's proof can be found: tests/….py::test_… is a test function of that file."""
    wrong = [
        found[0]
        for found in TEST_NAME.finditer(document.read_text())
        if found[2] not in functions_of(ROOT / found[1])
    ]

    assert not wrong, "\n".join(wrong)


def functions_of(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_hardening_measure_names_its_test() -> None:
    """Each row of docs/security.md's tables with a column "Test" names a test."""
    rows = rows_with_column("Test", (ROOT / "docs/security.md").read_text())

    assert rows
    assert not [row for row in rows if not TEST_NAME.search(row["Test"])]


def rows_with_column(column: str, document: str) -> list[dict[str, str]]:
    """The rows of all tables (GitHub's form) that have *column*, by the names of the columns."""
    rows: list[dict[str, str]] = []
    for table in re.findall(r"(?:^\|.*\|\n)+", document, re.MULTILINE):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        if column in lines[0]:
            rows += [dict(zip(lines[0], cells, strict=False)) for cells in lines[2:]]
    return rows


def test_tables_are_read() -> None:
    """The reader of tables itself."""
    document = "text\n| A | Test |\n| --- | --- |\n| 1 | x |\n| 2 | |\n\n| B |\n| --- |\n| 3 |\n"

    assert rows_with_column("Test", document) == [{"A": "1", "Test": "x"}, {"A": "2", "Test": ""}]

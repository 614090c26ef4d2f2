"""Which modules a source file imports, read from its syntax tree without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Import:
    """*module* (absolute) is imported by *importer* in *line*."""

    importer: str
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}"


def module_name(path: Path, root: Path) -> str:
    """The dotted name of the module in *path*, a file below *root*."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """All imports of *path*, also those in functions and for type checking alone.

    ``from package import name`` gives ``package.name``, which may be a module or anything else.
    """
    importer = module_name(path, root)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                yield Import(importer, f"{base}.{alias.name}", node.lineno)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imports_below(package: Path) -> list[Import]:
    """All imports of all modules of *package*, a directory in the checkout's root."""
    files = sorted(package.rglob("*.py"))
    return [found for path in files for found in imports_of(path, package.parent)]

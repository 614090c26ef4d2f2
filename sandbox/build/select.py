"""What a COPY or ADD takes of a tree: sources, wildcards, exclusions, in a fixed order."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from sandbox.build.errors import BuildError
from sandbox.build.patterns import IgnoreRules, compile_pattern, has_wildcards
from sandbox.build.tree import Node, Tree, join, resolve


class Selected(Struct, frozen=True):
    """A file that is copied. *name* is where it goes below the source's own place, "" for that."""

    source: Source
    name: str
    node: Node


class Source(Struct, frozen=True):
    """One source after its wildcards were expanded."""

    given: str  # as the Dockerfile has it
    name: str  # its last component
    node: Node
    parents: tuple[Node, ...] = ()  # with --parents: the directories above, that are made as well


def find_sources(tree: Tree, given: str, *, parents: bool = False) -> list[Source]:
    """Return what the source *given* is in *tree*; a pattern may match nothing.

    Raises BuildError for a plain name that is not there.
    """
    pivot, cleaned = _clean(given)
    if not has_wildcards(cleaned):
        node = resolve(tree, cleaned)
        if node is None:
            raise BuildError(
                f'"/{cleaned}": not found', hint="is it in the context, and not in .dockerignore?"
            )
        return [_source(tree, given, cleaned, node, pivot if parents else None)]
    found = sorted(_matches(tree, cleaned), key=lambda pair: pair[0])
    return [_source(tree, given, path, node, pivot if parents else None) for path, node in found]


def _clean(given: str) -> tuple[str, str]:
    """Return the part before rsync's pivot "/./" and the whole path, both without "." and ".."."""
    before, dot, _ = ("/" + given).partition("/./")
    pivot = posixpath.normpath(before or "/").lstrip("/") if dot else ""
    return pivot, posixpath.normpath("/" + given).lstrip("/")


def _source(tree: Tree, given: str, path: str, node: Node, pivot: str | None) -> Source:
    name = posixpath.basename(path)
    if pivot is None:
        return Source(given, name, node)
    above = []
    directory = posixpath.dirname(path)
    while directory not in ("", pivot):
        parent = resolve(tree, directory)
        if parent is not None:
            above.append(replace(parent, path=directory))
        directory = posixpath.dirname(directory)
    cut = len(pivot) + 1 if pivot else 0
    parents = tuple(replace(p, path=p.path[cut:]) for p in reversed(above))
    return Source(given, name, node, parents)


def _matches(tree: Tree, pattern: str) -> Iterator[tuple[str, Node]]:
    """Yield what matches, by Go's rules: a wildcard never matches a slash; `**` matches several."""
    plain: list[str] = []
    parts = pattern.split("/")
    while not has_wildcards(parts[0]):
        plain.append(parts.pop(0))
    start = resolve(tree, "/".join(plain))
    if start is None or not start.is_directory:
        return
    yield from _below(tree, start, "/".join(plain), parts)


def _below(tree: Tree, directory: Node, path: str, parts: list[str]) -> Iterator[tuple[str, Node]]:
    part, rest = parts[0], parts[1:]
    regex = compile_pattern(part)
    for name in tree.names(directory):
        node = tree.child(directory, name)
        if node is None:
            continue
        here = join(path, name)
        if part == "**":
            if rest:
                yield from _below_one(tree, node, here, parts)
            else:
                yield here, node
        elif regex.fullmatch(name):
            if not rest:
                yield here, _followed(tree, here, node)
            elif node.is_directory:
                yield from _below(tree, node, here, rest)
    if part == "**" and rest:
        yield from _below(tree, directory, path, rest)


def _below_one(tree: Tree, node: Node, path: str, parts: list[str]) -> Iterator[tuple[str, Node]]:
    if node.is_directory:
        yield from _below(tree, node, path, parts)


def _followed(tree: Tree, path: str, node: Node) -> Node:
    """Return what a link that is itself a source leads to; one that leads nowhere is copied."""
    if not node.is_link:
        return node
    return resolve(tree, path) or node


def files_of(tree: Tree, source: Source, excludes: IgnoreRules) -> Iterator[Selected]:
    """Yield *source* and all below it that is not excluded, directories first."""
    if not source.node.is_directory:
        if not excludes.ignores(source.name):
            yield Selected(source, "", source.node)
        return
    pending = [("", source.node)]
    while pending:
        name, node = pending.pop()
        if (
            name
            and excludes.ignores(name)
            and not (node.is_directory and excludes.may_except_below(name))
        ):
            continue
        yield Selected(source, name, node)
        if node.is_directory:
            children = ((n, tree.child(node, n)) for n in reversed(tree.names(node)))
            pending += [(join(name, n), child) for n, child in children if child is not None]

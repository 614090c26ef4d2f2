"""Patterns for files: Go's `filepath.Match`, for the sources of COPY, and `.dockerignore`'s.

https://pkg.go.dev/path/filepath#Match; https://docs.docker.com/build/concepts/context/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from sandbox.build.errors import BuildError

_WILDCARDS = re.compile(r"[*?\[\\]")
_MOST_CHARACTERS = 4096


class PatternError(BuildError):
    """A pattern for files is wrong."""


def has_wildcards(text: str) -> bool:
    """Return whether *text* is more than a plain name."""
    return _WILDCARDS.search(text) is not None


def compile_pattern(pattern: str, *, stars: bool = False) -> re.Pattern[str]:
    """Return the regular expression for a whole path; with *stars* `**` means any directories.

    Raises PatternError.
    """
    if len(pattern) > _MOST_CHARACTERS:
        raise PatternError("a pattern is too long", detail=f"{len(pattern)} characters")
    try:
        return re.compile(_translate(pattern, stars), re.DOTALL)
    except re.error as err:
        raise PatternError(f"syntax error in pattern: {pattern[:200]!r}", detail=str(err)) from None


def _translate(pattern: str, stars: bool) -> str:
    regex = ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "*" and stars and pattern.startswith("**", at):
            while pattern.startswith("*", at):
                at += 1
            if pattern.startswith("/", at):
                regex += "(?:.*/)?"
                at += 1
            else:
                regex += ".*"
            continue
        if character == "*":
            while pattern.startswith("*", at + 1):
                at += 1
            regex += "[^/]*"
        elif character == "?":
            regex += "[^/]"
        elif character == "[":
            part, at = _character_class(pattern, at)
            regex += part
            continue
        elif character == "\\":
            at += 1
            if at == len(pattern):
                raise PatternError(f"syntax error in pattern: {pattern[:200]!r}")
            regex += re.escape(pattern[at])
        else:
            regex += re.escape(character)
        at += 1
    return regex


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    """Return the regular expression of `[…]` at *at*, and where it ends."""
    wrong = PatternError(f"syntax error in pattern: {pattern[:200]!r}")
    at += 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges = ""
    while not (ranges and pattern.startswith("]", at)):
        low, at = _class_member(pattern, at, wrong)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_member(pattern, at + 1, wrong)
        if low > high:
            # Go's matches nothing; a class that can't match stands for it.
            ranges += ranges or r"[^\s\S]"[1:-1]
            continue
        ranges += f"{re.escape(low)}-{re.escape(high)}"
    return f"(?!/)[{'^' if negated else ''}{ranges}]", at + 1


def _class_member(pattern: str, at: int, wrong: PatternError) -> tuple[str, int]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise wrong
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise wrong
    return pattern[at], at + 1


class _Rule(Struct, frozen=True):
    regex: re.Pattern[str]
    excludes: bool  # False: an exception ("!")
    parts: tuple[re.Pattern[str] | None, ...]  # of the pattern's components; None is `**`

    def may_match_below(self, directory: str) -> bool:
        """Return whether something below *directory* could match; not all of what does, does."""
        names = directory.split("/")
        if None not in self.parts and len(self.parts) <= len(names):
            return False
        for part, name in zip(self.parts, names, strict=False):
            if part is None:
                return True
            if not part.fullmatch(name):
                return False
        return True


class IgnoreRules:
    """Which paths of a tree are left out: the last rule that matches decides."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules: Sequence[_Rule] = [_rule(pattern) for pattern in patterns]
        self._directories: dict[str, tuple[bool, ...]] = {"": (False,) * len(self._rules)}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def ignores(self, path: str) -> bool:
        """Return whether *path* ("a/b") is left out: it or a directory above it matches."""
        if not self._rules:
            return False
        matched = self._matched(path.strip("/"))
        ignored = False
        for rule, hit in zip(self._rules, matched, strict=True):
            if hit:
                ignored = rule.excludes
        return ignored

    def may_except_below(self, directory: str) -> bool:
        """Return whether an exception could be found in an ignored *directory*."""
        return any(not r.excludes and r.may_match_below(directory) for r in self._rules)

    def _matched(self, path: str) -> tuple[bool, ...]:
        """Return for each rule whether it matches *path* or a parent of it."""
        known = self._directories.get(path)
        if known is not None:
            return known
        above = self._matched(posixpath.dirname(path))
        found = tuple(
            hit or rule.regex.fullmatch(path) is not None
            for rule, hit in zip(self._rules, above, strict=True)
        )
        self._directories[path] = found
        return found


def _rule(pattern: str) -> _Rule:
    excludes = not pattern.startswith("!")
    text = pattern if excludes else pattern[1:].strip()
    if not text:
        raise PatternError(f"illegal exclusion pattern: {pattern!r}")
    cleaned = posixpath.normpath(text).lstrip("/")
    parts = tuple(None if "**" in part else compile_pattern(part) for part in cleaned.split("/"))
    return _Rule(compile_pattern(cleaned, stars=True), excludes, parts)


def parse_ignore_file(data: bytes) -> list[str]:
    """Return the patterns of a `.dockerignore`."""
    text = data.decode("utf-8-sig", "surrogateescape")
    patterns = []
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if pattern in ("", "."):
            continue
        patterns.append(pattern)
    return patterns

"""Variables and quotes in a Dockerfile's words, as BuildKit's shell lexer reads them.

https://docs.docker.com/reference/dockerfile/#environment-replacement: `$name`, `${name}` and the
modifiers `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`, quotes, and the escape character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sandbox.build.errors import BuildError

_SPECIAL = "@*#?-$!"
_MOST_CHARACTERS = 1 << 20
_DEEPEST = 50


class WordError(BuildError):
    """A word can't be expanded."""


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Return *text* with variables replaced and quotes removed. Raises WordError."""
    return "".join(piece for piece, _ in _read(text, variables, escape))


def expand_text(text: str, variables: Mapping[str, str]) -> str:
    """Return the text of a here-document, in which quotes are ordinary characters."""
    lexer = _Lexer(text, variables, "\\", quotes=False)
    return "".join(piece for piece, _ in lexer.read_all())


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Return the words of *text* after expansion; a variable's value may be several."""
    words: list[str] = []
    begun = False
    for piece, quoted in _read(text, variables, escape):
        if quoted:
            if not begun:
                words.append("")
            words[-1] += piece
            begun = True
            continue
        for character in piece:
            if character.isspace():
                begun = False
                continue
            if not begun:
                words.append("")
            words[-1] += character
            begun = True
    return words


def _read(text: str, variables: Mapping[str, str], escape: str) -> list[tuple[str, bool]]:
    return _Lexer(text, variables, escape, quotes=True).read_all()


class _Lexer:
    """Reads one word from left to right; pieces are (text, was it quoted)."""

    def __init__(
        self, text: str, variables: Mapping[str, str], escape: str, *, quotes: bool
    ) -> None:
        if len(text) > _MOST_CHARACTERS:
            raise WordError("a word is too long", detail=f"{len(text)} characters")
        self.text = text
        self.at = 0
        self.variables = variables
        self.escape = escape
        self.quotes = quotes
        self.depth = 0
        self.size = 0

    def read_all(self) -> list[tuple[str, bool]]:
        return self._until("")

    def _until(self, stop: str, *, raw_escapes: bool = False) -> list[tuple[str, bool]]:
        """Read to the character *stop* ("": to the end) and past it."""
        pieces: list[tuple[str, bool]] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == stop:
                self.at += 1
                return pieces
            pieces.append(self._piece(character, raw_escapes=raw_escapes))
        if stop:
            raise WordError(
                f"syntax error in {self.text[:200]!r}", detail=f"no {stop!r} where one should be"
            )
        return pieces

    def _piece(self, character: str, *, raw_escapes: bool) -> tuple[str, bool]:
        if self.quotes and character == "'":
            return self._single_quoted(), True
        if self.quotes and character == '"':
            return self._double_quoted(), True
        if character == "$":
            return self._dollar(), False
        self.at += 1
        if character == self.escape:
            if self.at == len(self.text):
                return "", False
            following = self.text[self.at]
            self.at += 1
            return (character + following if raw_escapes else following), True
        return character, False

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self._unmatched("single-quote")
        content = self.text[self.at + 1 : end]
        self.at = end + 1
        return content

    def _double_quoted(self) -> str:
        self.at += 1
        content = ""
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "$":
                content += self._dollar()
                continue
            self.at += 1
            if character == '"':
                return content
            if character == self.escape and self.at < len(self.text):
                following = self.text[self.at]
                if following in ('"', "$", self.escape):
                    character = following
                    self.at += 1
            content += character
        raise self._unmatched("double-quote")

    def _unmatched(self, what: str) -> WordError:
        return WordError(
            f"syntax error in {self.text[:200]!r}",
            detail=f"unexpected end of statement while looking for matching {what}",
        )

    def _dollar(self) -> str:
        self.at += 1
        if self.text[self.at : self.at + 1] != "{":
            name = self._name()
            return self._bounded(self.variables.get(name, "")) if name else "$"
        self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise WordError("substitutions are nested too deep")
        value = self._bounded(self._braced())
        self.depth -= 1
        return value

    def _bounded(self, value: str) -> str:
        self.size += len(value)
        if self.size > _MOST_CHARACTERS:
            raise WordError("a word becomes too long by expansion")
        return value

    def _name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise WordError(f"bad substitution in {self.text[:200]!r}")
        modifier = self.text[self.at : self.at + 1]
        self.at += 1
        if modifier == "}":
            return self.variables.get(name, "")
        if modifier == "":
            raise WordError(f"syntax error in {self.text[:200]!r}", detail="missing '}'")
        if modifier == "/":
            return self._replace(name)
        empty_counts = modifier == ":"
        if empty_counts:
            modifier = self.text[self.at : self.at + 1]
            self.at += 1
        if modifier in ("#", "%") and not empty_counts:
            return self._trim(name, modifier)
        if modifier not in ("-", "+", "?") or not modifier:
            raise WordError(
                f"unsupported modifier ({':' if empty_counts else ''}{modifier}) in substitution",
                detail=self.text[:200],
            )
        word = self._text_until("}")
        return self._alternative(name, modifier, word, empty_counts=empty_counts)

    def _text_until(self, stop: str, *, raw_escapes: bool = False) -> str:
        return "".join(piece for piece, _ in self._until(stop, raw_escapes=raw_escapes))

    def _alternative(self, name: str, modifier: str, word: str, *, empty_counts: bool) -> str:
        value = self.variables.get(name)
        missing = value is None or (empty_counts and value == "")
        if modifier == "-":
            return word if missing else value or ""
        if modifier == "+":
            return "" if missing else word
        if missing:
            state = "unset" if value is None else "empty"
            raise WordError(f"{name}: {word or f'not allowed to be {state}'}")
        return value or ""

    def _trim(self, name: str, side: str) -> str:
        pattern = self._text_until("}", raw_escapes=True)
        longest = pattern.startswith(side)
        if longest:
            pattern = pattern[1:]
        value = self.variables.get(name, "")
        matches = _matcher(pattern)
        cuts = range(len(value) + 1)
        if side == "#":
            for cut in reversed(cuts) if longest else cuts:
                if matches(value[:cut]):
                    return value[cut:]
        else:
            for cut in cuts if longest else reversed(cuts):
                if matches(value[cut:]):
                    return value[:cut]
        return value

    def _replace(self, name: str) -> str:
        everywhere = self.text[self.at : self.at + 1] == "/"
        self.at += everywhere
        pattern = self._text_until("/", raw_escapes=True)
        replacement = self._text_until("}")
        value = self.variables.get(name, "")
        if not pattern:
            return value
        compiled = re.compile(_as_regex(pattern), re.DOTALL)
        return compiled.sub(lambda _: replacement, value, count=0 if everywhere else 1)


_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[{re.escape(_SPECIAL)}]")


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(_as_regex(pattern), re.DOTALL).fullmatch


def _as_regex(pattern: str) -> str:
    """Return a shell pattern (`*`, `?`, escapes) as a regular expression."""
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            # Several in a row mean the same and would make the search slow.
            if not parts or parts[-1] != ".*":
                parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append(re.escape(character))
    return "".join(parts)

"""Source text of a template to tokens."""

from __future__ import annotations

import re

from msgspec import Struct

from sandbox.errors import UsageError


class TemplateError(UsageError):
    """The template is wrong, or does not fit what it is applied to."""

    def __init__(self, message: str) -> None:
        super().__init__(f"template: {message}", hint="see docs/cli.md, or use --format json")


class Token(Struct, frozen=True):
    """A word of an action, or the text between actions (kind "text")."""

    kind: str  # text open close space field variable word number string op
    text: str


_ACTION = re.compile(r"\{\{(-(?=\s))?")
_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<close>\}\})
    | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))
    | (?P<variable>\$[A-Za-z0-9_]*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<raw>`[^`]*`)
    | (?P<char>'(?:[^'\\\n]|\\.)')
    | (?P<op>:=|=|\||\(|\)|,|\.)
    """,
    re.VERBOSE,
)
_TRIMMING_CLOSE = re.compile(r"\s+-\}\}")
_COMMENT = re.compile(r"(?:-\s)?\s*/\*.*?\*/\s*?(\s-)?\}\}", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def tokenize(source: str) -> list[Token]:
    """Return the tokens of *source*. Raises TemplateError."""
    tokens: list[Token] = []
    position = 0
    trim = False
    while True:
        action = _ACTION.search(source, position)
        text = source[position : action.start() if action else len(source)]
        if trim:
            text = text.lstrip()
        if action and action.group(1):
            text = text.rstrip()
        if text:
            tokens.append(Token("text", text))
        if action is None:
            return tokens
        position, trim = _action(source, action.end(), tokens)


def _action(source: str, position: int, tokens: list[Token]) -> tuple[int, bool]:
    """Read what stands in `{{ }}`; return where it ends and whether it trims what follows."""
    comment = _COMMENT.match(source, position)
    if comment:
        return comment.end(), bool(comment.group(1))
    tokens.append(Token("open", "{{"))
    while position < len(source):
        # " -}}" begins with a space, so it is looked for before spaces are skipped.
        closing = _TRIMMING_CLOSE.match(source, position)
        if closing:
            tokens.append(Token("close", "}}"))
            return closing.end(), True
        match = _TOKEN.match(source, position)
        if match is None:
            raise TemplateError(f"unexpected {source[position]!r} at position {position}")
        position = match.end()
        kind = str(match.lastgroup)
        if kind == "close":
            tokens.append(Token("close", "}}"))
            return position, False
        # A space matters in one place: `.A .B` are two operands, `.A.B` is one.
        tokens.append(_token(kind, match.group()))
    raise TemplateError("unclosed action: }} is missing")


def _token(kind: str, text: str) -> Token:
    if kind == "string":
        return Token("string", unquote(text[1:-1]))
    if kind == "raw":
        return Token("string", text[1:-1])
    if kind == "char":
        return Token("number", str(ord(unquote(text[1:-1]))))
    return Token(kind, text)


def unquote(text: str) -> str:
    """Return *text* with Go's escapes replaced."""

    def replacement(match: re.Match[str]) -> str:
        byte, point, letter = match.groups()
        if byte or point:
            return chr(int(byte or point, 16))
        return _ESCAPES.get(letter, letter)

    return _ESCAPE.sub(replacement, text)

"""Tokens of a template to a tree of nodes."""

from __future__ import annotations

from typing import Literal as OneOf
from typing import TypeAlias

from msgspec import Struct

from sandbox.cli.templates.lexer import TemplateError, Token, tokenize

# Nested deeper than this it is not a format but an attack on Python's stack.
_DEEPEST = 50


class Text(Struct, frozen=True):
    """Text between actions, printed as it is."""

    text: str


class Literal(Struct, frozen=True):
    """A constant."""

    value: object


class Dot(Struct, frozen=True):
    """`.`: the current value."""


class Variable(Struct, frozen=True):
    """`$name`; `$` is the value the template was applied to."""

    name: str


class Function(Struct, frozen=True):
    """The name of a function."""

    name: str


class Fields(Struct, frozen=True):
    """`operand.A.B`"""

    operand: Operand
    names: tuple[str, ...]


class Pipeline(Struct, frozen=True):
    """`$a, $b := command | command`: each a list of operands, the first of which may be called."""

    commands: tuple[tuple[Operand, ...], ...]
    variables: tuple[str, ...] = ()
    declares: bool = False


Operand: TypeAlias = Literal | Dot | Variable | Function | Fields | Pipeline


class Action(Struct, frozen=True):
    """`{{pipeline}}`: prints its value, unless it sets a variable."""

    pipeline: Pipeline


class Branch(Struct, frozen=True):
    """`if`, `with` or `range`, with what follows and what `else` says."""

    kind: OneOf["if", "with", "range"]
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Jump(Struct, frozen=True):
    """`break` or `continue`."""

    kind: str


Node: TypeAlias = Text | Action | Branch | Jump


def parse_template(source: str) -> tuple[Node, ...]:
    """Return the tree of *source*. Raises TemplateError."""
    parser = _Parser(tokenize(source))
    nodes = parser.nodes()
    if parser.peek() is not None:
        raise TemplateError(f"unexpected {{{{{parser.keyword()}}}}}")
    return nodes


_BRANCHES: dict[str, OneOf["if", "with", "range"]] = {"if": "if", "with": "with", "range": "range"}


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.loops = 0

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def next(self) -> Token:
        token = self.peek()
        if token is None:
            raise TemplateError("unexpected end")
        self.position += 1
        return token

    def keyword(self) -> str:
        """Return the word that the action at hand begins with, "" for none."""
        first, second = self.peek(), self.peek(1)
        if first and first.kind == "open":
            while second and second.kind == "space":
                self.tokens.pop(self.position + 1)
                second = self.peek(1)
            if second and second.kind == "word":
                return second.text
        return ""

    def nodes(self) -> tuple[Node, ...]:
        """Read until the end, or an action that ends or divides what is being read."""
        found: list[Node] = []
        while (token := self.peek()) is not None:
            if token.kind == "text":
                found.append(Text(self.next().text))
                continue
            keyword = self.keyword()
            if keyword in ("end", "else"):
                break
            found.append(self.action(keyword))
        return tuple(found)

    def action(self, keyword: str) -> Node:
        self.next()
        kind = _BRANCHES.get(keyword)
        if kind is not None:
            self.next()
            return self.branch(kind)
        if keyword in ("break", "continue") and self.loops:
            self.next()
            self.close()
            return Jump(keyword)
        if keyword in ("define", "template", "block", "break", "continue"):
            raise TemplateError(f"{keyword} can't be used here")
        pipeline = self.pipeline()
        self.close()
        return Action(pipeline)

    def branch(self, kind: OneOf["if", "with", "range"]) -> Branch:
        self.deeper()
        pipeline = self.pipeline()
        self.close()
        self.loops += kind == "range"
        body = self.nodes()
        self.loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if self.peek() is None:
            raise TemplateError(f"{kind} without end")
        ending = self.keyword()
        self.position += 2
        if ending == "else":
            otherwise = self.otherwise()
        else:
            self.close()
        self.depth -= 1
        return Branch(kind, pipeline, body, otherwise)

    def otherwise(self) -> tuple[Node, ...]:
        self.spaces()
        word = self.peek()
        if word and word.kind == "word" and word.text in ("if", "with"):
            self.next()
            return (self.branch("if" if word.text == "if" else "with"),)
        self.close()
        body = self.nodes()
        if self.keyword() != "end":
            raise TemplateError("else without end")
        self.position += 2
        self.close()
        return body

    def pipeline(self) -> Pipeline:
        self.deeper()
        variables, declares = self.declaration()
        commands = [self.command()]
        while self.at_op("|"):
            self.next()
            commands.append(self.command())
        self.depth -= 1
        return Pipeline(tuple(commands), variables, declares)

    def declaration(self) -> tuple[tuple[str, ...], bool]:
        """Read `$x :=`, `$x =` or `$i, $x :=`, when it stands there."""
        start = self.position
        names: list[str] = []
        self.spaces()
        while (token := self.peek()) and token.kind == "variable":
            names.append(self.next().text)
            self.spaces()
            if self.at_op(":=") or self.at_op("="):
                return tuple(names), self.next().text == ":="
            if not self.at_op(",") or len(names) == 2:
                break
            self.next()
            self.spaces()
        self.position = start
        return (), False

    def command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while True:
            self.spaces()
            token = self.peek()
            if token is None or token.kind == "close" or self.at_op("|") or self.at_op(")"):
                break
            if token.kind == "op" and token.text not in ("(", "."):
                raise TemplateError(f"unexpected {token.text!r}")
            operands.append(self.operand())
        if not operands:
            raise TemplateError("missing value for command")
        return tuple(operands)

    def operand(self) -> Operand:
        token = self.next()
        operand = self.simple_operand(token)
        names: list[str] = []
        while (following := self.peek()) and following.kind == "field":
            names.append(self.next().text[1:])
        if names and isinstance(operand, Literal):
            raise TemplateError(f"unexpected .{names[0]} after a constant")
        if names and isinstance(operand, Fields):
            return Fields(operand.operand, (*operand.names, *names))
        return Fields(operand, tuple(names)) if names else operand

    def simple_operand(self, token: Token) -> Operand:
        if token.kind == "string":
            return Literal(token.text)
        if token.kind == "number":
            return Literal(_number(token.text))
        if token.kind == "field":
            return Fields(Dot(), (token.text[1:],))
        if token.kind == "variable":
            return Variable(token.text)
        if token.kind == "word":
            constants: dict[str, object] = {"true": True, "false": False, "nil": None}
            if token.text in constants:
                return Literal(constants[token.text])
            return Function(token.text)
        if token.text == ".":
            return Dot()
        if token.text == "(":
            inner = self.pipeline()
            self.spaces()
            if not self.at_op(")"):
                raise TemplateError("unclosed (")
            self.next()
            return inner
        raise TemplateError(f"unexpected {token.text!r}")

    def at_op(self, text: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "op" and token.text == text

    def spaces(self) -> None:
        while (token := self.peek()) and token.kind == "space":
            self.position += 1

    def close(self) -> None:
        self.spaces()
        token = self.next()
        if token.kind != "close":
            raise TemplateError(f"unexpected {token.text!r}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise TemplateError("nested too deeply")


def _number(text: str) -> object:
    try:
        return int(text, 0)
    except ValueError:
        return float(text)

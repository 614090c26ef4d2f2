"""Applies a template's tree to a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandbox.cli.templates.functions import FUNCTIONS
from sandbox.cli.templates.lexer import TemplateError
from sandbox.cli.templates.syntax import (
    Action,
    Branch,
    Dot,
    Fields,
    Function,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    Text,
    Variable,
    parse_template,
)
from sandbox.cli.templates.values import StringMap, is_sequence, is_true, printed


class Template:
    """A parsed template. Raises TemplateError when *source* is not one."""

    def __init__(self, source: str) -> None:
        self.nodes = parse_template(source)

    def render(self, value: Any) -> str:
        """Return the template's text for *value*: dicts, lists, strings, numbers, callables.

        A callable in a dict is a method: it gets the operands that follow it.
        """
        return "".join(_Evaluation(value).run(self.nodes, value))


class _Jumped(Exception):
    """`break` or `continue` was reached."""

    def __init__(self, kind: str, printed_so_far: list[str]) -> None:
        super().__init__(kind)
        self.kind = kind
        self.printed_so_far = printed_so_far


class _Evaluation:
    """One application of a template: the variables, innermost scope last."""

    def __init__(self, root: Any) -> None:
        self.scopes: list[dict[str, Any]] = [{"$": root}]

    def run(self, nodes: Sequence[Node], dot: Any) -> list[str]:
        out: list[str] = []
        for node in nodes:
            if isinstance(node, Text):
                out.append(node.text)
            elif isinstance(node, Action):
                value = self.pipeline(node.pipeline, dot)
                if not node.pipeline.variables:
                    out.append(printed(value))
            elif isinstance(node, Jump):
                raise _Jumped(node.kind, out)
            else:
                try:
                    out += self.branch(node, dot)
                except _Jumped as jump:
                    raise _Jumped(jump.kind, out + jump.printed_so_far) from None
        return out

    def branch(self, node: Branch, dot: Any) -> list[str]:
        self.scopes.append({})
        try:
            if node.kind == "range":
                return self.range(node, dot)
            value = self.pipeline(node.pipeline, dot)
            if is_true(value):
                return self.run(node.body, value if node.kind == "with" else dot)
            return self.run(node.otherwise, dot)
        finally:
            self.scopes.pop()

    def range(self, node: Branch, dot: Any) -> list[str]:
        items = list(_items(self.commands(node.pipeline, dot)))
        if not items:
            return self.run(node.otherwise, dot)
        out: list[str] = []
        for key, item in items:
            self.scopes.append(
                dict(zip(reversed(node.pipeline.variables), (item, key), strict=False))
            )
            try:
                out += self.run(node.body, item)
            except _Jumped as jump:
                out += jump.printed_so_far
                if jump.kind == "break":
                    return out
            finally:
                self.scopes.pop()
        return out

    def pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value = self.commands(pipeline, dot)
        if len(pipeline.variables) > 1:
            raise TemplateError("two variables can be set by range alone")
        for name in pipeline.variables:
            if pipeline.declares:
                self.scopes[-1][name] = value
            else:
                self.scope_of(name)[name] = value
        return value

    def commands(self, pipeline: Pipeline, dot: Any) -> Any:
        piped: tuple[Any, ...] = ()
        for command in pipeline.commands:
            piped = (self.command(command, piped, dot),)
        return piped[0]

    def command(self, operands: tuple[Operand, ...], piped: tuple[Any, ...], dot: Any) -> Any:
        first, rest = operands[0], operands[1:]
        if isinstance(first, Function):
            return self.call(first.name, rest, piped, dot)
        value = self.fields(first, dot) if isinstance(first, Fields) else self.operand(first, dot)
        if callable(value):
            return _call(value, "method", [self.operand(o, dot) for o in rest] + list(piped))
        if rest or piped:
            raise TemplateError(f"can't give an argument to {printed(value)!r}, not a function")
        return value

    def call(self, name: str, rest: Sequence[Operand], piped: tuple[Any, ...], dot: Any) -> Any:
        if name in ("and", "or"):
            return self.decide(name == "or", rest, piped, dot)
        function = FUNCTIONS.get(name)
        if function is None:
            raise TemplateError(f'function "{name}" not defined')
        return _call(function, name, [self.operand(o, dot) for o in rest] + list(piped))

    def decide(
        self, wanted: bool, rest: Sequence[Operand], piped: tuple[Any, ...], dot: Any
    ) -> Any:
        if not rest and not piped:
            raise TemplateError("wrong number of arguments for and, or")
        value: Any = None
        for operand in rest:
            value = self.operand(operand, dot)
            if is_true(value) is wanted:
                return value
        return piped[0] if piped else value

    def operand(self, operand: Operand, dot: Any) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Dot):
            return dot
        if isinstance(operand, Variable):
            return self.scope_of(operand.name)[operand.name]
        if isinstance(operand, Function):
            return self.call(operand.name, (), (), dot)
        if isinstance(operand, Pipeline):
            return self.pipeline(operand, dot)
        value = self.fields(operand, dot)
        return _call(value, "method", []) if callable(value) else value

    def fields(self, operand: Fields, dot: Any) -> Any:
        value = self.operand(operand.operand, dot)
        for name in operand.names:
            value = _field(value, name)
        return value

    def scope_of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] | None = next(
            (scope for scope in reversed(self.scopes) if name in scope), None
        )
        if found is not None:
            return found
        raise TemplateError(f'undefined variable "{name}"')


def _field(value: Any, name: str) -> Any:
    if isinstance(value, StringMap):
        return value[name]
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        known = ", ".join(str(key) for key in value)
        raise TemplateError(
            f"no field .{name}: there are {known}" if known else f"no field .{name}"
        )
    if value is None:
        raise TemplateError(f"nil has no field .{name}")
    raise TemplateError(f"can't evaluate field {name} in {printed(value)!r}")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        yield from ((key, value[key]) for key in sorted(value))
    elif is_sequence(value):
        yield from enumerate(value)
    else:
        raise TemplateError(f"range can't iterate over {printed(value)!r}")


def _call(function: Any, name: str, arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except TypeError:
        raise TemplateError(f"wrong number or kind of arguments for {name}") from None

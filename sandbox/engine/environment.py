"""Environment variables and labels: `-e`, `--env-file`, `--label`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sandbox.errors import InvalidSpec, NotFound

# None: the variable is taken away from what the image sets.
Variable = tuple[str, str | None]


def parse_variable(text: str, environ: Mapping[str, str]) -> Variable:
    """Return the variable of `-e NAME=VALUE`; `-e NAME` takes its value from *environ*.

    Raises InvalidSpec.
    """
    name, equals, value = text.partition("=")
    if not name:
        raise InvalidSpec(f"invalid environment variable: {text!r}")
    return (name, value) if equals else (name, environ.get(name))


def read_env_file(path: Path, environ: Mapping[str, str]) -> tuple[Variable, ...]:
    """Return the variables of a file: one a line, `#` begins a comment, quotes mean nothing.

    Raises NotFound, InvalidSpec.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidSpec(f"can't read {path}", detail=str(err)) from err
    return tuple(_file_variables(text, path, environ))


def _file_variables(text: str, path: Path, environ: Mapping[str, str]) -> Iterable[Variable]:
    # Not splitlines(): form feeds and the like are part of a value.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, _ = stripped.partition("=")
        if not name or any(c.isspace() for c in name.rstrip() if equals) or name != name.rstrip():
            raise InvalidSpec(
                f"{path}: line {number}: the name of a variable holds no spaces: {name!r}"
            )
        variable = parse_variable(stripped, environ)
        if equals or variable[1] is not None:
            yield variable


def parse_label(text: str) -> tuple[str, str]:
    """Return key and value of `--label KEY[=VALUE]`. Raises InvalidSpec."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidSpec(f"invalid label: {text!r}", hint="KEY=VALUE")
    return key, value

"""Go's text/template, as far as docker's users use it in `--format`.

    lexer      source text → tokens
    syntax     tokens → a tree of nodes
    values     what Go prints for a value, what it takes for true
    functions  len, index, printf, json, join …
    evaluate   a tree and a value → text

https://pkg.go.dev/text/template and https://docs.docker.com/engine/cli/formatting/. Left out:
define, template and block, which make no sense in one line.
"""

from sandbox.cli.templates.evaluate import Template
from sandbox.cli.templates.lexer import TemplateError
from sandbox.cli.templates.values import StringMap

__all__ = ["StringMap", "Template", "TemplateError"]

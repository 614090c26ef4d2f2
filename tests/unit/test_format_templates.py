"""Templates mean what Go's text/template and docker's functions mean."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cli.templates import StringMap, Template, TemplateError

DATA: dict[str, Any] = {
    "Name": "web",
    "ID": "abc",
    "Size": 3,
    "Ratio": 1.5,
    "Running": True,
    "Nothing": None,
    "State": {"Status": "running", "ExitCode": 0},
    "Labels": StringMap({"a": "1", "b": "2"}),
    "Cmd": ["ls", "-l"],
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None},
    "Label": lambda key: {"a": "1"}.get(key, ""),
}


# The right side is what Go 1.22 and docker 27 print.
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}/{{.ID}}", "web/abc"),
        ("{{.State.Status}}", "running"),
        ("{{.Running}} {{.Size}} {{.Ratio}} {{.Nothing}}", "true 3 1.5 <no value>"),
        ("{{.Cmd}}", "[ls -l]"),
        ("{{.Labels}}", "map[a:1 b:2]"),
        ("{{.Labels.a}}{{.Labels.zzz}}", "1"),
        ('{{.Label "a"}}-{{.Label "z"}}', "1-"),
        ("{{json .State}}", '{"Status":"running","ExitCode":0}'),
        ("{{json .Name}}", '"web"'),
        ("{{.Name | upper | printf `%s!`}}", "WEB!"),
        ("{{upper .Name}}{{lower `ABC`}}{{title `abc`}}", "WEBabcAbc"),
        ('{{join .Cmd ", "}}', "ls, -l"),
        ('{{split "a,b" ","}}', "[a b]"),
        ("{{len .Cmd}}{{len .Labels}}{{len .Name}}", "223"),
        ('{{index .Labels "b"}}', "2"),
        ("{{index .Cmd 1}}", "-l"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{index .Labels "none"}}', ""),
        ("{{range .Cmd}}<{{.}}>{{end}}", "<ls><-l>"),
        ("{{range $i, $e := .Cmd}}{{$i}}={{$e}};{{end}}", "0=ls;1=-l;"),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Cmd}}{{.}}{{break}}{{end}}", "ls"),
        ('{{range .Cmd}}{{if eq . "ls"}}{{continue}}{{end}}{{.}}{{end}}', "-l"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Nothing}}a{{else if .Running}}b{{else}}c{{end}}", "b"),
        ("{{if not .Running}}a{{end}}b", "b"),
        ('{{if and .Running (eq .Name "web")}}yes{{end}}', "yes"),
        ("{{or .Nothing .Name}} {{and .Size .Name}}", "web web"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ("{{with $x := .Name}}{{$x}}{{$.ID}}{{end}}", "webabc"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{eq .Size 1 2 3}} {{ne .Size 3}} {{lt 1 2}} {{ge 2 2}}", "true false true true"),
        (
            '{{printf "%s|%5d|%-5s|%05.1f|%q|%%" .Name 42 "ab" 1.25 "x"}}',
            'web|   42|ab   |001.2|"x"|%',
        ),
        ('{{printf "%d" "x"}}', "%!d(str=x)"),
        ('{{print 1 2 "a" "b" 3}}', "1 2a b3".replace("a b", "ab")),
        ('{{println "a" 1}}', "a 1\n"),
        ("{{slice .Name 1}}{{slice .Name 0 1}}", "ebw"),
        ("{{truncate .Name 2}}{{pad .ID 1 2}}|", "we abc  |"),
        ("a {{- .Name -}} b", "awebb"),
        ("a{{/* nothing */}}b", "ab"),
        ("{{- /* trimmed */ -}} x", "x"),
        (r'{{"\t\"\x41A"}}', '\t"AA'),
        ("{{'a'}} {{0x10}} {{-3}} {{1e3}}", "97 16 -3 1000"),
        ("{{(len .Cmd) | printf `%d`}}", "2"),
        ("{{`)`}}{{`|`}}{{`.`}}", ")|."),
    ],
)
def test_templates_print_what_docker_prints(template: str, text: str) -> None:
    """Each construct gives the text that docker gives for it."""
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", "no field .Nope: there are Name"),
        ("{{.Name.More}}", "can't evaluate field More"),
        ("{{.Nothing.More}}", "nil has no field .More"),
        ("{{nope .Name}}", 'function "nope" not defined'),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{.Name", "unclosed action"),
        ("{{if .Name}}", "if without end"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "missing value"),
        ("{{template `x`}}", "template can't be used here"),
        ("{{break}}", "break can't be used here"),
        ("{{.Name | }}", "missing value"),
        ("{{(.Name}}", "unclosed ("),
        ("{{index .Cmd 5}}", "index out of range: 5"),
        ("{{len .Size}}", "len of 3"),
        ("{{eq .Name 1}}", "can't compare"),
        ("{{.Name .ID}}", "can't give an argument"),
        ("{{upper}}", "wrong number"),
        ("{{range .Name}}{{end}}", "range can't iterate"),
        ('{{printf "%99999999d" 1}}', "too wide"),
        ("{{" + "(" * 5000 + "}}", "nested too deeply"),
        ("{{if 1}}" * 5000, "nested too deeply"),
    ],
)
def test_a_wrong_template_is_an_error_that_says_what_is_wrong(template: str, message: str) -> None:
    """No template ends in a traceback."""
    with pytest.raises(TemplateError) as caught:
        Template(template).render(DATA)

    assert message in caught.value.message


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_json_values)
def test_json_is_json(value: Any) -> None:
    """`{{json .}}` prints what reads as the same value."""
    assert json.loads(Template("{{json .}}").render(value)) == value


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_stays_as_it_is(text: str) -> None:
    """What stands outside of actions is printed unchanged."""
    assert Template(text).render(None) == text


@given(st.text())
def test_a_quoted_string_is_that_string(text: str) -> None:
    """A constant in Go's quotes stands for itself."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert Template('{{"' + escaped + '"}}').render(None) == text


_pieces = st.sampled_from(
    [
        "{{",
        "}}",
        ".Name",
        ".Cmd",
        "range ",
        "if ",
        "else",
        "end",
        "with ",
        "(",
        ")",
        "|",
        " ",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "json ",
        "index ",
        "len ",
        "eq ",
        "1",
        "0x",
        "-",
        '"a"',
        "`",
        "'",
        "/*",
        "*/",
        "printf ",
        "%d",
        "-}}",
        "{{-",
        "break",
        "and ",
        "not ",
        ".",
        "nil",
        "é",
        "\n",
    ]
)


@given(st.lists(_pieces, max_size=25).map("".join))
def test_no_template_is_more_than_an_error(source: str) -> None:
    """Whatever is given as a template renders or is a TemplateError."""
    with contextlib.suppress(TemplateError):
        Template(source).render(DATA)

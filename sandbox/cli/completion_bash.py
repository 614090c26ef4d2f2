"""The completion script for bash. It needs no bash-completion package."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.cli.completion_data import SOURCES, Completed, first_words, second_words
from sandbox.cli.parser import Option

_FRAME = """\
# bash completion for sbx
_sbx_candidates() {{
    case "$1" in
{sources}
    esac
}}

_sbx_values() {{
    case "$1" in
        file|directory) mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
        words:*) mapfile -t COMPREPLY < <(compgen -W "${{1#words:}}" -- "$2") ;;
        ?*) mapfile -t COMPREPLY < <(compgen -W "$(_sbx_candidates "$1")" -- "$2") ;;
    esac
}}

_sbx() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="" options="" valued="" argument="" words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in
            -*) [ -z "$command" ] && continue; break ;;
        esac
        case "$command" in
            "") command="$word" ;;
            {groups}) command="$command $word"; break ;;
            *) break ;;
        esac
    done
    COMPREPLY=()
    case "$command" in
        "") words="{first}" ;;
{cases}
    esac
    case "$valued" in
        *" $previous="*)
            word="${{valued#*" $previous="}}"
            _sbx_values "${{word%%;*}}" "$current"
            return ;;
    esac
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    elif [[ "$current" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$current")
    else
        _sbx_values "$argument" "$current"
    fi
}}
complete -o default -F _sbx sbx
"""


def render(commands: list[Completed]) -> str:
    """Return the script."""
    groups = second_words(commands)
    sources = [f"        {name}) {source} ;;" for name, source in SOURCES.items()]
    cases = [f'        "{group}") words="{" ".join(w)}" ;;' for group, w in groups.items()]
    cases += [_case(entry) for entry in commands]
    return _FRAME.format(
        sources="\n".join(sources),
        groups="|".join(sorted(groups)),
        first=" ".join(first_words(commands)),
        cases="\n".join(cases),
    )


def _case(entry: Completed) -> str:
    options = " ".join(_spellings(entry.options))
    valued = "".join(
        f" {spelling}={_kind(option)};"
        for option in entry.options
        if option.kind != "flag"
        for spelling in _spellings([option])
    )
    return (
        f'        "{entry.name}")\n            options="{options}"\n'
        f'            valued="{valued}"\n            argument="{entry.command.completion}" ;;'
    )


def _spellings(options: Iterable[Option]) -> list[str]:
    return [
        spelling
        for option in options
        for spelling in (f"--{option.name}", f"-{option.short}" if option.short else "")
        if spelling
    ]


def _kind(option: Option) -> str:
    return f"words:{' '.join(option.choices)}" if option.choices else option.completion

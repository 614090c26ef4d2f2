"""The completion script for zsh."""

from __future__ import annotations

from sandbox.cli.completion_data import SOURCES, Completed, second_words
from sandbox.cli.parser import Option

_FRAME = """\
#compdef sbx
# zsh completion for sbx
{sources}

_sbx() {{
    local curcontext="$curcontext" state line
    local -a commands
    if (( CURRENT == 2 )); then
        commands=(
{first}
        )
        _describe -t commands command commands
        return
    fi
    local command="${{words[2]}}"
    case "$command" in
        {groups})
            if (( CURRENT == 3 )); then
                case "$command" in
{seconds}
                esac
                _describe -t commands command commands
                return
            fi
            command="$command ${{words[3]}}"
            shift words
            (( CURRENT-- ))
            ;;
    esac
    shift words
    (( CURRENT-- ))
    case "$command" in
{cases}
    esac
}}
# As a file of $fpath this is the body of the function at its first call, else it is sourced.
if [ "$funcstack[1]" = "_sbx" ]; then
    _sbx "$@"
else
    compdef _sbx sbx
fi
"""


def render(commands: list[Completed]) -> str:
    """Return the script."""
    groups = second_words(commands)
    summaries = {entry.name: entry.command.summary for entry in commands}
    first = [_described(e.name, e.command.summary) for e in commands if " " not in e.name]
    first += [_described(group, f"Commands for {group}s") for group in groups]
    seconds = [
        f"                    {group}) commands=("
        + " ".join(_described(word, summaries[f"{group} {word}"]) for word in words)
        + ") ;;"
        for group, words in groups.items()
    ]
    return _FRAME.format(
        sources="\n".join(_source(name, source) for name, source in SOURCES.items()),
        first="\n".join(f"            {text}" for text in first),
        groups="|".join(groups),
        seconds="\n".join(seconds),
        cases="\n".join(_case(entry) for entry in commands),
    )


def _source(name: str, source: str) -> str:
    return f'_sbx_{name}() {{ compadd -- ${{(f)"$({source})"}} }}'


def _described(word: str, text: str) -> str:
    return _quoted(f"{word}:{text}")


def _case(entry: Completed) -> str:
    lines = [f'        "{entry.name}") _arguments -s \\']
    lines += [f"            {spec} \\" for option in entry.options for spec in _specs(option)]
    action = f"_sbx_{entry.command.completion}" if entry.command.completion else "_files"
    lines.append(f"            {_quoted(f'1:argument:{action}')} '*::argument:_files' ;;")
    return "\n".join(lines)


def _specs(option: Option) -> list[str]:
    """Return one specification for each spelling, as `_arguments` takes them."""
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " -")
    star = "*" if option.kind == "list" else ""
    value = "" if option.kind == "flag" else f":{option.metavar}:{_action(option)}"
    specs = [_quoted(f"{star}--{option.name}{'=' if value else ''}[{text}]{value}")]
    if option.short:
        specs.append(_quoted(f"{star}-{option.short}{'+' if value else ''}[{text}]{value}"))
    return specs


def _action(option: Option) -> str:
    if option.choices:
        return f"({' '.join(option.choices)})"
    if option.completion in SOURCES:
        return f"_sbx_{option.completion}"
    return "_files" if option.completion else " "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

"""The completion script for fish."""

from __future__ import annotations

from sandbox.cli.completion_data import SOURCES, Completed, second_words
from sandbox.cli.parser import Option

_FRAME = """\
# fish completion for sbx
function __sbx_command
    set -l words
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; and break
        set -a words $word
        contains -- $words[1] {groups}; or break
        test (count $words) -ge 2; and break
    end
    test "$words" = "$argv"
end

complete -c sbx -f
{lines}
"""


def render(commands: list[Completed]) -> str:
    """Return the script."""
    groups = second_words(commands)
    lines = [_word("", entry.name, entry.command.summary) for entry in commands if _single(entry)]
    lines += [_word("", group, f"Commands for {group}s") for group in groups]
    for entry in commands:
        if not _single(entry):
            group, word = entry.name.split()
            lines.append(_word(group, word, entry.command.summary))
        lines += [_option(entry.name, option) for option in entry.options]
        if entry.command.completion:
            lines.append(f"{_condition(entry.name)} -a {_candidates(entry.command.completion)}")
    return _FRAME.format(groups=" ".join(groups), lines="\n".join(lines))


def _single(entry: Completed) -> bool:
    return " " not in entry.name


def _condition(command: str) -> str:
    return f"complete -c sbx -n {_quoted(f'__sbx_command {command}'.strip())}"


def _word(command: str, word: str, summary: str) -> str:
    return f"{_condition(command)} -a {word} -d {_quoted(summary)}"


def _option(command: str, option: Option) -> str:
    parts = [_condition(command), f"-l {option.name}"]
    if option.short:
        parts.append(f"-s {option.short}")
    if option.choices:
        parts.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.completion in SOURCES:
        parts.append(f"-x -a {_candidates(option.completion)}")
    elif option.kind != "flag":
        parts.append("-r -F" if option.completion else "-x")
    return " ".join([*parts, f"-d {_quoted(option.help)}"])


def _candidates(kind: str) -> str:
    return _quoted(f"({SOURCES[kind]})") if kind in SOURCES else "'(__fish_complete_path)'"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

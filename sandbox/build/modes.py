"""`--chmod`: octal, or symbolic as chmod(1) takes it."""

from __future__ import annotations

import re
import stat

from sandbox.build.errors import BuildError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_READ_WRITE_EXECUTE = {"r": 4, "w": 2, "x": 1}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def parse_mode(text: str) -> str:
    """Return *text* when it is a mode. Raises BuildError."""
    new_mode(text, 0o644)
    return text


def new_mode(text: str, mode: int) -> int:
    """Return the permission bits that *text* makes of *mode* (st_mode). Raises BuildError."""
    wrong = BuildError(
        f"invalid chmod parameter: {text[:100]!r}", hint="write 0755, or u=rwX,go=rX"
    )
    if re.fullmatch("[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        return int(text, 8)
    bits = stat.S_IMODE(mode)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise wrong
        who = match[1].replace("a", "ugo") or "ugo"
        for operator, permissions in _ACTION.findall(match[2]):
            bits = _apply(bits, who, operator, permissions, stat.S_ISDIR(mode))
    return bits


def _apply(bits: int, who: str, operator: str, permissions: str, directory: bool) -> int:
    change = cleared = 0
    for one in set(who):
        shift = _SHIFT[one]
        cleared |= 7 << shift
        change |= _bits(bits, permissions, directory) << shift
        if "s" in permissions and one in "ug":
            change |= stat.S_ISUID if one == "u" else stat.S_ISGID
    if "t" in permissions:
        change |= stat.S_ISVTX
    if operator == "+":
        return bits | change
    if operator == "-":
        return bits & ~change
    return bits & ~cleared | change


def _bits(bits: int, permissions: str, directory: bool) -> int:
    if permissions in ("u", "g", "o"):
        return bits >> _SHIFT[permissions] & 7
    found = sum(_READ_WRITE_EXECUTE.get(p, 0) for p in set(permissions) - {"X"})
    if "X" in permissions and (directory or bits & 0o111):
        found |= 1
    return found

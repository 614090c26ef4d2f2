"""Who the command runs as: docker's --user against the image's /etc/passwd and /etc/group."""

from __future__ import annotations

import os

from msgspec import Struct

from sandbox.errors import InvalidSpec
from sandbox.linux.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

# A hostile image may bring a passwd of any size.
_MAX_SIZE = 4 << 20
_MOST_DIGITS = 20


class Account(Struct, frozen=True):
    """Ids inside the container, the supplementary groups and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_account(root: int, user: str) -> Account:
    """Return the account for *user*: "", "name", "uid", each with ":group" (name or gid).

    *root* is a descriptor of the container's root directory. As in docker, a name has to be in
    the image's files, a number does not. Raises InvalidSpec.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    entry = _find(_records(root, "/etc/passwd", 7), name)
    if entry is None and not name.isdecimal():
        raise InvalidSpec(f"unable to find user {name}: no matching entry in the image's passwd")
    uid = _number(entry[2] if entry else name)
    gid = _number(entry[3]) if entry else 0
    home = (entry[5] if entry else "") or "/"
    groups: tuple[int, ...] = ()
    group_records = _records(root, "/etc/group", 4)
    if group:
        found = _find(group_records, group)
        if found is None and not group.isdecimal():
            raise InvalidSpec(
                f"unable to find group {group}: no matching entry in the image's group"
            )
        gid = _number(found[2] if found else group)
    elif entry:
        members = [r for r in group_records if entry[0] in r[3].split(",")]
        groups = tuple(sorted({_number(r[2]) for r in members} - {gid}))
    return Account(uid, gid, groups, home)


def _number(text: str) -> int:
    # int() of thousands of digits is an error of its own.
    if len(text) > _MOST_DIGITS or int(text) > 0x7FFFFFFF:
        raise InvalidSpec(f"uids and gids must be in range 0-2147483647, not {text[:40]}")
    return int(text)


def _find(records: list[list[str]], key: str) -> list[str] | None:
    """Return the record named *key*, else the one with that number."""
    for record in records:
        if record[0] == key:
            return record
    if key.isdecimal() and len(key) <= _MOST_DIGITS:
        for record in records:
            if len(record[2]) <= _MOST_DIGITS and int(record[2]) == int(key):
                return record
    return None


def _records(root: int, path: str, fields: int) -> list[list[str]]:
    try:
        file = openat2(
            root, path, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        )
    except OSError:
        return []
    with open(file, "rb") as stream:
        text = stream.read(_MAX_SIZE).decode(errors="surrogateescape")
    records = [line.split(":") for line in text.splitlines()]
    numeric = slice(2, 4) if fields == 7 else slice(2, 3)
    return [r for r in records if len(r) == fields and all(n.isdecimal() for n in r[numeric])]

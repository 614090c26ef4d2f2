"""Owners as `--chown` names them, found in a stage's /etc/passwd and /etc/group."""

from __future__ import annotations

from sandbox.build.errors import BuildError
from sandbox.build.tree import Tree, read_file

_MOST_BYTES = 4 << 20
_MOST_ID = 0x7FFFFFFF


def find_owner(tree: Tree, text: str) -> tuple[int, int]:
    """Return uid and gid for `user[:group]`; a user alone has the group of the same number.

    Raises BuildError for a name that the stage does not know.
    """
    user, colon, group = text.partition(":")
    uid, own_gid = 0, 0
    if user:
        uid, own_gid = _user(tree, user)
    if not colon or not group:
        return uid, own_gid
    return uid, _group(tree, group)


def _user(tree: Tree, name: str) -> tuple[int, int]:
    if name.isdecimal():
        return _number(name), _number(name)
    for record in _records(tree, "etc/passwd", 7):
        if record[0] == name and record[2].isdecimal() and record[3].isdecimal():
            return _number(record[2]), _number(record[3])
    raise BuildError(f"unable to find user {name}", detail="no matching entry in /etc/passwd")


def _group(tree: Tree, name: str) -> int:
    if name.isdecimal():
        return _number(name)
    for record in _records(tree, "etc/group", 4):
        if record[0] == name and record[2].isdecimal():
            return _number(record[2])
    raise BuildError(f"unable to find group {name}", detail="no matching entry in /etc/group")


def _number(text: str) -> int:
    if len(text) > 10 or int(text) > _MOST_ID:
        raise BuildError(f"uids and gids must be in range 0-{_MOST_ID}, not {text[:40]}")
    return int(text)


def _records(tree: Tree, path: str, fields: int) -> list[list[str]]:
    text = (read_file(tree, path, _MOST_BYTES) or b"").decode(errors="surrogateescape")
    records = [line.split(":") for line in text.splitlines()]
    return [record for record in records if len(record) == fields]

"""The result of one look at the machine, and what the looks have in common."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from sandbox.doctor.distribution import Distribution
from sandbox.paths import Paths

State = Literal["ok", "warn", "fail"]


class Check(Struct, frozen=True):
    """One thing that sbx needs or can use."""

    name: str
    state: State  # fail: containers don't run; warn: something is weaker, slower or refused
    found: str
    matters: str = ""  # what it is for, or what does not work without it
    mend: str = ""  # commands for a shell, one per line; "" when there is nothing to do


class Host(Struct, frozen=True):
    """The machine and the user as the checks see them."""

    paths: Paths
    environ: Mapping[str, str]
    uid: int
    gid: int
    user: str
    distribution: Distribution = field(default_factory=Distribution.current)

    @classmethod
    def current(cls, paths: Paths, environ: Mapping[str, str]) -> Host:
        uid = os.getuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return cls(paths, environ, uid, os.getgid(), name)


def read_first_line(path: str) -> str | None:
    """Return the first line of a file below /proc or /sys, None when it is not there."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return None

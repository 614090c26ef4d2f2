"""What a prepared container is told at last: the command, and who it is for.

A container can be set up before anybody asks for it, up to the point where only the command is
missing. All but the things here must be what the asker's own plan says (`fits`).
"""

from __future__ import annotations

import os

from msgspec import Struct, structs

from sandbox.container.plan import ContainerPlan, TextFile
from sandbox.linux.syscalls import sethostname
from sandbox.spec import from_json, to_json


class Assignment(Struct, frozen=True):
    """The differences between two plans that an init can still make good."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    files: tuple[tuple[str, str], ...]  # texts by path (/etc/hostname …)

    @classmethod
    def of(cls, plan: ContainerPlan) -> Assignment:
        """Return what *plan* says of them."""
        process = plan.process
        files = tuple((s.target, s.content) for s in plan.steps if isinstance(s, TextFile))
        return cls(process.argv, process.env, process.cwd, process.user, plan.hostname, files)

    def applied(self, plan: ContainerPlan) -> ContainerPlan:
        """Return *plan* with these differences made."""
        texts = dict(self.files)
        return structs.replace(
            plan,
            hostname=self.hostname,
            steps=tuple(
                structs.replace(s, content=texts.get(s.target, s.content))
                if isinstance(s, TextFile)
                else s
                for s in plan.steps
            ),
            process=structs.replace(
                plan.process, argv=self.argv, env=self.env, cwd=self.cwd, user=self.user
            ),
        )


def fits(prepared: ContainerPlan, wanted: ContainerPlan) -> bool:
    """True when a container made by *prepared* needs nothing but an assignment to be *wanted*."""
    return Assignment.of(wanted).applied(prepared) == wanted


def rehearse(plan: ContainerPlan) -> None:
    """Do what an assignment makes of *plan*, for nothing (`process.rehearse` tells what for)."""
    from_json(Assignment, to_json(Assignment.of(plan))).applied(plan)


def carry_out(assignment: Assignment, texts: dict[str, int]) -> None:
    """Set the host name and rewrite the text files, given open by path; as pid 1, before go."""
    sethostname(assignment.hostname)
    for path, text in assignment.files:
        descriptor = texts.get(path)
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(errors="surrogateescape"), 0)

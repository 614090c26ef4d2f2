"""Who runs a command, and where."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import NoReturn

from msgspec import Struct, field

from sandbox.link import ClientLink
from sandbox.linux import storage_userns
from sandbox.linux.processes import ProcessRef
from sandbox.linux.storage_userns import User
from sandbox.paths import Paths, make_private


class Context(Struct):
    """One command's surroundings."""

    paths: Paths
    environ: Mapping[str, str]
    user: User  # as the host knows it
    link: ClientLink | None = None
    in_storage: bool = False  # this process is in the storage user namespace
    debug: bool = field(default=False)
    orders: socket.socket | None = None  # of a launcher's worker, until it is a command for good
    ahead: socket.socket | None = None  # to the second process of a cold run (`engine.ahead`)

    @classmethod
    def create(
        cls, environ: Mapping[str, str], user: User, link: ClientLink | None, *, in_storage: bool
    ) -> Context:
        return cls(Paths.from_environ(environ, user.uid), environ, user, link, in_storage)

    def enter_storage(self, member: ProcessRef | None = None) -> None:
        """Move this process into the storage user namespace, once.

        With *member* (a supervisor) into the one that it lives in.
        """
        if self.in_storage:
            return
        make_private(self.paths.runtime)
        registry = make_private(self.paths.runtime / "userns")
        if member is None or not storage_userns.join(member):
            storage_userns.enter(self.user, registry)
        self.in_storage = True

    def stay(self) -> None:
        """Be the process of this command to its end: not the launcher's again, and alone."""
        for end in (self.orders, self.ahead):
            if end is not None:
                end.close()
        self.orders = self.ahead = None

    def run_cold(self) -> NoReturn:
        """Have the client carry out its command itself: this launcher is not the one for it."""
        if self.link is not None:
            self.link.send({"cold": True})
        os._exit(0)

    def shares_storage_with(self, member: ProcessRef) -> bool:
        """True when *member* is in this process's user namespace."""
        try:
            theirs = os.stat(f"/proc/{member.pid}/ns/user").st_ino
        except PermissionError:
            return False  # it is not below this namespace (ptrace(2), "access mode checking")
        except OSError:
            return True
        return theirs == os.stat("/proc/self/ns/user").st_ino

"""A cgroup from the user's systemd: a transient scope with Delegate=yes, asked for over D-Bus.

Source: org.freedesktop.systemd1(5), systemd.io/CGROUP_DELEGATION. A scope is the way to get
controllers on a desktop or a server with logins, where the own session's cgroup belongs to root.
systemd removes the scope by itself when its last process has ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sandbox.linux.cgroups_delegation import Delegation, own_path, vacate
from sandbox.linux.dbus import Connection, DBusError, Variant, user_bus_addresses

_SYSTEMD = "org.freedesktop.systemd1"
_OBJECT = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_SECONDS = 5.0


class NoScope(Exception):
    """There is no systemd of this user that gave us a scope; the text says why."""


def delegated_scope(
    unit: str, environ: Mapping[str, str], others: Sequence[int] = ()
) -> Delegation:
    """Move the caller (and the processes *others*) into a new scope *unit*, ready for children.

    *unit* is a name without ".scope". The processes end up in a leaf of the scope, so that its
    other children can have controllers. Raises NoScope.
    """
    pids = [os.getpid(), *others]
    with _manager(environ) as manager:
        _start_scope(manager, f"{unit}.scope", pids)
    scope = own_path()
    if scope is None or scope.name != f"{unit}.scope":
        raise NoScope(f"systemd started {unit}.scope, yet this process is in {scope}")
    delegation = vacate(str(scope))
    if delegation is None:
        raise NoScope(f"no controllers are delegated to {unit}.scope")
    return delegation


def attach(cgroup: str, pids: Sequence[int], environ: Mapping[str, str]) -> None:
    """Have systemd move *pids* into *cgroup*, an absolute path at or below one of its scopes.

    What the kernel refuses us, because the way from a login session's cgroup leads past root's
    directories, systemd may do (AttachProcessesToUnit, systemd 238). Raises NoScope.
    """
    above, found, below = cgroup.partition(".scope")
    unit = above.rpartition("/")[2] + found
    if not found:
        raise NoScope(f"{cgroup} is in no scope")
    with _manager(environ) as manager:
        manager.call(
            _SYSTEMD,
            _OBJECT,
            _MANAGER,
            "AttachProcessesToUnit",
            "ssau",
            unit,
            below or "/",
            list(pids),
        )


def reachable(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the version of the user's systemd and its cgroup ("/user.slice/…"). Raises NoScope."""
    with _manager(environ) as manager:
        version, cgroup = (
            manager.call(
                _SYSTEMD, _OBJECT, "org.freedesktop.DBus.Properties", "Get", "ss", _MANAGER, name
            )[0].value
            for name in ("Version", "ControlGroup")
        )
    return str(version), str(cgroup)


@contextmanager
def _manager(environ: Mapping[str, str]) -> Iterator[Connection]:
    """A connection to the user's systemd. Every failure within is raised as NoScope."""
    connection = _connect(environ)
    try:
        yield connection
    except DBusError as err:
        raise NoScope(f"systemd refused: {err.text or err.name}") from err
    except OSError as err:
        raise NoScope(f"systemd did not answer: {err}") from err
    finally:
        connection.close()


def _connect(environ: Mapping[str, str]) -> Connection:
    reasons = []
    for address in user_bus_addresses(environ):
        try:
            connection = Connection.open(address, _SECONDS)
        except OSError as err:
            reasons.append(f"{address}: {err.strerror or err}")
            continue
        if address.endswith("/systemd/private") or _greet(connection):
            return connection
        connection.close()
        reasons.append(f"{address}: not a bus with systemd on it")
    raise NoScope("\n".join(reasons) or "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR set")


def _greet(connection: Connection) -> bool:
    """Say Hello to the bus; False when no systemd is on it (a dbus-run-session, say)."""
    try:
        connection.hello()
        (present,) = connection.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "NameHasOwner",
            "s",
            _SYSTEMD,
        )
        if present:
            connection.add_match(
                f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='JobRemoved'"
            )
        return bool(present)
    except (OSError, DBusError):
        return False


def _start_scope(manager: Connection, unit: str, pids: Sequence[int]) -> None:
    call: Callable[..., tuple[Any, ...]] = manager.call
    try:
        # systemd sends JobRemoved only when somebody subscribed.
        call(_SYSTEMD, _OBJECT, _MANAGER, "Subscribe")
    except DBusError:
        pass  # on its own socket one is subscribed from the start
    properties = [
        ("Description", Variant("s", f"sbx container {unit.removesuffix('.scope')}")),
        ("PIDs", Variant("au", list(pids))),
        ("Delegate", Variant("b", True)),
        # A scope that failed must not keep its name.
        ("CollectMode", Variant("s", "inactive-or-failed")),
    ]
    (job,) = call(
        _SYSTEMD,
        _OBJECT,
        _MANAGER,
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        unit,
        "fail",
        properties,
        [],
    )
    removed = manager.wait_signal("JobRemoved", lambda body: body[1] == job)
    if removed.body[3] != "done":
        raise NoScope(f"systemd could not start {unit}: {removed.body[3]}")

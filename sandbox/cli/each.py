"""Commands that take several containers: each is processed, whatever becomes of the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from sandbox.engine.context import Context
from sandbox.errors import NotFound, SbxError
from sandbox.state import Container, Containers


def open_containers(context: Context) -> Containers:
    """Return the user's containers, with the state on disk made true first."""
    from sandbox.engine.reconcile import reconcile

    containers = Containers(context.paths)
    reconcile(containers)
    return containers


def for_each(
    references: Iterable[str], action: Callable[[str], None], *, forgive_missing: bool = False
) -> int:
    """Call *action* with each reference; print what fails. Return docker's exit code: 0 or 1.

    With *forgive_missing* what isn't there is said and does not count.
    """
    code = 0
    for reference in references:
        try:
            action(reference)
        except SbxError as err:
            sys.stdout.flush()
            print(err.describe(), file=sys.stderr)
            if not (forgive_missing and isinstance(err, NotFound)):
                code = 1
    return code


def for_each_container(
    references: Iterable[str],
    context: Context,
    action: Callable[[Container], None],
    *,
    forgive_missing: bool = False,
) -> int:
    """Call *action* with each container and print the reference when it succeeded."""
    containers = open_containers(context)

    def one(reference: str) -> None:
        action(containers.find(reference))
        print(reference, flush=True)

    return for_each(references, one, forgive_missing=forgive_missing)

"""`sbx logout`: forget the credentials for a registry."""

from __future__ import annotations

from sandbox.cli.login import registry_of
from sandbox.cli.parser import Arguments, Command
from sandbox.engine.context import Context
from sandbox.image.registry.credentials import forget


def run(arguments: Arguments, context: Context) -> int:
    registry = registry_of(arguments)
    if forget(registry, context.environ):
        print(f"Removing login credentials for {registry}")
    else:
        print(f"Not logged in to {registry}")
    return 0


COMMAND = Command(
    name="logout",
    arguments="[SERVER]",
    summary="Forget the credentials for a registry",
    run=run,
    at_most=1,
)

"""`sbx port`: where a container's ports are on the host."""

from __future__ import annotations

from sandbox.cli.each import open_containers
from sandbox.cli.parser import Arguments, Command
from sandbox.engine.context import Context
from sandbox.engine.inspection import published
from sandbox.errors import NotFound


def run(arguments: Arguments, context: Context) -> int:
    container = open_containers(context).find(arguments.positionals[0])
    table = published(container.status.ports) if container.running else {}
    if len(arguments.positionals) == 1:
        for port, hosts in table.items():
            for host in hosts:
                print(f"{port} -> {_address(host)}")
        return 0
    wanted = arguments.positionals[1]
    wanted = wanted if "/" in wanted else f"{wanted}/tcp"
    if wanted not in table:
        raise NotFound(f"no public port '{wanted}' published for {container.spec.name}")
    for host in table[wanted]:
        print(_address(host))
    return 0


def _address(host: dict[str, str]) -> str:
    ip = host["HostIp"]
    return f"[{ip}]:{host['HostPort']}" if ":" in ip else f"{ip}:{host['HostPort']}"


COMMAND = Command(
    name="port",
    arguments="CONTAINER [PRIVATE_PORT[/PROTOCOL]]",
    summary="List the published ports of a container",
    run=run,
    at_least=1,
    at_most=2,
    completion="container",
)

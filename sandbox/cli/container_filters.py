"""`sbx ps --filter`: which containers are meant.

https://docs.docker.com/reference/cli/docker/container/ls/#filter
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sandbox.cli.filters import has_labels, parse_filters
from sandbox.engine.context import Context
from sandbox.engine.inspection import state_of
from sandbox.errors import NotFound, UsageError
from sandbox.spec import ContainerSpec
from sandbox.state import Container, Containers

Test = Callable[[Container, str], bool]
_STATES = ("created", "running", "exited", "paused", "restarting", "removing", "dead")


def container_filter(
    given: Sequence[str], known: Sequence[Container], context: Context
) -> Callable[[Container], bool]:
    """Return the test that --filter asks for. Raises UsageError."""
    if not given:
        return lambda container: True
    filters = parse_filters(given, (*_TESTS, "label", "before", "since"))
    _check(filters)
    labels = filters.pop("label", [])
    moments = {key: _created(filters.pop(key, []), context) for key in ("before", "since")}

    def selects(container: Container) -> bool:
        created = container.spec.created
        return (
            has_labels(dict(container.spec.labels), labels)
            and all(created < moment for moment in moments["before"])
            and all(created > moment for moment in moments["since"])
            and all(
                any(_TESTS[key](container, value) for value in values)
                for key, values in filters.items()
            )
        )

    return selects


def _check(filters: dict[str, list[str]]) -> None:
    for state in filters.get("status", []):
        if state not in _STATES:
            raise UsageError(f"invalid filter 'status={state}'", hint=", ".join(_STATES))
    for code in filters.get("exited", []):
        if not re.fullmatch(r"-?\d{1,3}", code):
            raise UsageError(f"invalid filter 'exited={code}': not a number")
    for pattern in filters.get("name", []):
        try:
            re.compile(pattern)
        except re.error as err:
            raise UsageError(f"invalid filter 'name={pattern}'", detail=str(err)) from None


def _created(references: Sequence[str], context: Context) -> list[float]:
    containers = Containers(context.paths)
    try:
        return [containers.find(reference).spec.created for reference in references]
    except NotFound as err:
        raise UsageError(f"invalid filter: {err.message}") from None


def _exited(container: Container, value: str) -> bool:
    return state_of(container) == "exited" and container.status.exit_code == int(value)


def _ancestor(container: Container, value: str) -> bool:
    spec = container.spec
    digits = spec.image_id.removeprefix("sha256:")
    names = {spec.image, f"{spec.image}:latest", spec.image.removesuffix(":latest"), spec.image_id}
    return value in names or (len(value) >= 4 and digits.startswith(value.removeprefix("sha256:")))


def _volume(container: Container, value: str) -> bool:
    return any(value in (mount.source, mount.target) for mount in container.spec.mounts)


def _publish(container: Container, value: str) -> bool:
    return any(f":{port}->" in text for text in _ports(container) for port in _range(value))


def _expose(container: Container, value: str) -> bool:
    wanted, _, protocol = value.partition("/")
    return any(
        str(port.container_port) in _range(wanted) and protocol in ("", port.protocol)
        for port in container.spec.ports
    )


def _ports(container: Container) -> tuple[str, ...]:
    return container.status.ports if container.running else ()


def _range(text: str) -> Sequence[str]:
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(?:tcp|udp))?", text)
    if match is None:
        raise UsageError(f"invalid filter: {text!r} is not a port")
    return [str(port) for port in range(int(match[1]), int(match[2] or match[1]) + 1)]


def _name(container: Container, value: str) -> bool:
    # docker's names begin with a slash, and people write ^/name$.
    name = container.spec.name
    return re.search(value, name) is not None or re.search(value, f"/{name}") is not None


def _spec(test: Callable[[ContainerSpec, str], bool]) -> Test:
    return lambda container, value: test(container.spec, value)


_TESTS: dict[str, Test] = {
    "id": _spec(lambda spec, value: spec.id.startswith(value)),
    "name": _name,
    "status": lambda container, value: state_of(container) == value,
    "exited": _exited,
    "ancestor": _ancestor,
    "volume": _volume,
    "publish": _publish,
    "expose": _expose,
    "network": _spec(lambda spec, value: spec.network == value),
    "profile": _spec(lambda spec, value: spec.profile == value),
}

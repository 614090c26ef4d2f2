"""The options of `sbx run` as data, and what a command line with them asks for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sandbox.cli.parser import Arguments, Option
from sandbox.engine import options as engine_options
from sandbox.engine import sizes
from sandbox.engine.context import Context
from sandbox.engine.environment import Variable, parse_label, parse_variable, read_env_file
from sandbox.engine.mount_syntax import parse_mount, parse_tmpfs, parse_volume
from sandbox.engine.options import RunOptions
from sandbox.engine.port_syntax import parse_ports
from sandbox.engine.signals import parse_signal
from sandbox.errors import UsageError
from sandbox.spec import Mount

# What `run` and `exec` have in common.
TTY = Option("tty", "Allocate a pseudo-TTY", short="t")
INTERACTIVE = Option("interactive", "Keep STDIN open", short="i")
ENV = Option("env", "Set environment variables", short="e", kind="list", metavar="list")
ENV_FILE = Option(
    "env-file",
    "Read in a file of environment variables",
    kind="list",
    metavar="list",
    completion="file",
)
WORKDIR = Option("workdir", "Working directory inside the container", short="w", kind="value")
USER = Option("user", "Username or UID (format: <name|uid>[:<group|gid>])", short="u", kind="value")

OPTIONS = (
    TTY,
    INTERACTIVE,
    ENV,
    ENV_FILE,
    WORKDIR,
    USER,
    Option("detach", "Run container in background and print container ID", short="d"),
    Option("rm", "Remove the container when it ends"),
    Option("name", "Assign a name to the container", kind="value"),
    Option("hostname", "Container host name", short="h", kind="value"),
    Option("volume", "Bind mount a directory or a volume", "v", "list", "list", completion="file"),
    Option("mount", "Attach a filesystem mount", kind="list", metavar="mount"),
    Option("tmpfs", "Mount a tmpfs directory", kind="list", metavar="list"),
    Option("read-only", "Mount the container's root filesystem as read only"),
    Option("entrypoint", "Overwrite the ENTRYPOINT of the image", kind="value"),
    Option("init", "Run an init inside the container that forwards signals and reaps processes"),
    Option("label", "Set meta data on a container", "l", "list", "list"),
    Option("label-file", "Read labels from a file", "", "list", "list", completion="file"),
    Option("cidfile", "Write the container ID to the file", "", "value", completion="file"),
    Option("network", "Connect the container: private, none or host", kind="value"),
    Option("net", "The same as --network", kind="value", hidden=True),
    Option("publish", "Publish a container's port(s) to the host", "p", "list", "list"),
    Option("publish-all", "Publish all exposed ports to random ports", "P"),
    Option("memory", "Memory limit", "m", "value", "bytes"),
    Option("memory-swap", "Memory and swap together; -1: unlimited swap", "", "value", "bytes"),
    Option("cpus", "Number of CPUs", "", "value", "decimal"),
    Option("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)", kind="value"),
    Option("pids-limit", "Limit processes and threads (-1: unlimited)", "", "value", "int"),
    Option("ulimit", "Ulimit options, as in nofile=1024:2048", "", "list", "ulimit"),
    Option("shm-size", "Size of /dev/shm", "", "value", "bytes"),
    Option("cap-add", "Add Linux capabilities", "", "list", "list"),
    Option("cap-drop", "Drop Linux capabilities", "", "list", "list"),
    Option("security-opt", "seccomp=FILE|NAME|unconfined, no-new-privileges", "", "list", "list"),
    Option("userns", "User namespace: root, keep-id or auto", kind="value"),
    Option("privileged", "All capabilities, within your own user namespace"),
    Option(
        "profile",
        "Settings to begin with (see sbx profile ls)",
        kind="value",
        completion="profile",
    ),
    Option("overlay", "Driver of the root's overlay", kind="value", choices=("fuse", "kernel")),
    Option("storage-opt", "Limit the root's overlay: size=1g, inodes=10000", "", "list", "list"),
    Option("timeout", "Stop the container after this time", "", "value", "duration"),
    Option("output-limit", "Kill the container after this much output", "", "value", "bytes"),
    Option("stop-signal", "Signal to stop the container", "", "value", completion="signal"),
    Option("stop-timeout", "Time to wait before killing it", "", "value", "duration"),
    Option("device", "Add a host device: null, zero, full, random, urandom", "", "list", "list"),
    Option(
        "cgroups",
        "What if a limit can't be enforced: an error, or a warning",
        kind="value",
        choices=("enabled", "best-effort", "disabled"),
    ),
    Option("explain", "Say which system calls were denied, and why"),
    Option("log-opt", "Limit the log: max-size=10m, max-file=2", "", "list", "list"),
    Option("pull", "Pull the image first", kind="value", choices=("always", "missing", "never")),
    Option("quiet", "Suppress the pull output", short="q"),
    Option("debug", "Show the plan of what is done", short="D"),
    Option("sig-proxy", "Proxy received signals to the process", hidden=True),
    Option("restart", "Restart policy", kind="value", choices=("no",), hidden=True),
)


def run_options(arguments: Arguments, context: Context) -> RunOptions:
    """Return what the command line asks for. Raises UsageError, InvalidSpec, NotFound."""
    image, *argv = arguments.positionals
    text, texts = arguments.text, arguments.texts

    def parsed(name: str, parse: Any) -> Any:
        value = text(name)
        return None if value is None else parse(value)

    return RunOptions(
        image=image,
        argv=tuple(argv),
        name=text("name"),
        hostname=text("hostname"),
        env=environment(arguments, context),
        cwd=text("workdir"),
        user=text("user"),
        entrypoint=parsed("entrypoint", lambda value: (value,) if value else ()),
        tty=arguments.flag("tty"),
        interactive=arguments.flag("interactive"),
        detach=arguments.flag("detach"),
        remove=arguments.flag("rm"),
        init=arguments.flag_or_none("init"),
        read_only=arguments.flag_or_none("read-only"),
        labels=_labels(arguments),
        mounts=_mounts(arguments),
        devices=tuple(map(engine_options.parse_device, texts("device"))),
        network=parsed("network" if text("network") else "net", engine_options.parse_network),
        ports=tuple(port for value in texts("publish") for port in parse_ports(value)),
        publish_all=arguments.flag("publish-all"),
        memory=parsed("memory", lambda value: sizes.parse_size(value, "memory")),
        memory_swap=parsed("memory-swap", sizes.parse_memory_swap),
        cpus=parsed("cpus", sizes.parse_cpus),
        cpuset_cpus=parsed("cpuset-cpus", sizes.parse_cpuset),
        pids=parsed("pids-limit", engine_options.parse_pids),
        shm_size=parsed("shm-size", lambda value: sizes.parse_size(value, "shm-size")),
        timeout=parsed("timeout", lambda value: sizes.parse_duration(value, "timeout")),
        output=parsed("output-limit", lambda value: sizes.parse_size(value, "output-limit")),
        ulimits=tuple(map(engine_options.parse_ulimit, texts("ulimit"))),
        cap_add=_comma_separated(texts("cap-add")),
        cap_drop=_comma_separated(texts("cap-drop")),
        explain=arguments.flag_or_none("explain"),
        privileged=arguments.flag("privileged"),
        userns=parsed("userns", engine_options.parse_userns),
        overlay=text("overlay"),  # type: ignore[arg-type]  # one of its choices
        cgroups=text("cgroups"),  # type: ignore[arg-type]  # one of its choices
        stop_signal=parsed("stop-signal", parse_signal),
        stop_timeout=parsed("stop-timeout", sizes.parse_duration),
        **_composite(arguments),
    )


def environment(arguments: Arguments, context: Context) -> tuple[Variable, ...]:
    """Return the variables of --env-file and -e: the latter win."""
    variables: list[Variable] = []
    for file in arguments.texts("env-file"):
        variables += read_env_file(Path(file), context.environ)
    variables += [parse_variable(value, context.environ) for value in arguments.texts("env")]
    return tuple(variables)


def _labels(arguments: Arguments) -> tuple[tuple[str, str], ...]:
    labels: list[tuple[str, str]] = []
    for file in arguments.texts("label-file"):
        labels += [(key, value or "") for key, value in read_env_file(Path(file), {})]
    return (*labels, *map(parse_label, arguments.texts("label")))


def _mounts(arguments: Arguments) -> tuple[Mount, ...]:
    cwd = _working_directory() if arguments.texts("volume") or arguments.texts("mount") else "/"
    return (
        *(parse_volume(value, cwd) for value in arguments.texts("volume")),
        *(parse_mount(value, cwd) for value in arguments.texts("mount")),
        *map(parse_tmpfs, arguments.texts("tmpfs")),
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError(
            "the current directory does not exist any more", hint="change to one that does"
        ) from None


def _composite(arguments: Arguments) -> dict[str, Any]:
    """Return the fields of the options that hold a name of their own: `--storage-opt size=1g`."""
    fields: dict[str, Any] = {}
    for name, parse in (
        ("security-opt", engine_options.parse_security_option),
        ("storage-opt", engine_options.parse_storage_option),
        ("log-opt", engine_options.parse_log_option),
    ):
        for value in arguments.texts(name):
            fields |= parse(value)
    return fields


def _comma_separated(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)

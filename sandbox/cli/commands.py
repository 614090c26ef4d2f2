"""The table of commands: what exists, where it is defined and where it runs.

The client reads it before anything else is imported, so it imports nothing.
"""

from __future__ import annotations


class Entry:
    """One command: `module:attribute` of its Command, and one line on what it does."""

    __slots__ = ("in_userns", "section", "summary", "target")

    def __init__(self, section: str, target: str, summary: str, *, in_userns: bool = False) -> None:
        self.section = section  # the heading in `sbx --help`; "" is not listed there
        self.target = target
        self.summary = summary
        # Owns or removes files of the subordinate ids, so it enters the storage user namespace.
        # The engine does so by itself where it depends on the container (run, exec).
        self.in_userns = in_userns


_RUN = "Run"
_CONTAINERS = "Containers"
_IMAGES = "Images"
_VOLUMES = "Volumes"
_SBX = "This machine"

COMMANDS = {
    "run": Entry(_RUN, "run", "Run a command in a new container"),
    "create": Entry(_RUN, "create", "Create a new container, and do not start it"),
    "start": Entry(_RUN, "start", "Start one or more stopped containers"),
    "exec": Entry(_RUN, "exec_", "Run a command in a running container"),
    "attach": Entry(_RUN, "attach", "Attach to a running container's input and output"),
    "ps": Entry(_CONTAINERS, "ps", "List containers"),
    "logs": Entry(_CONTAINERS, "logs", "Fetch the logs of a container"),
    "stop": Entry(_CONTAINERS, "stop", "Stop one or more running containers"),
    "restart": Entry(_CONTAINERS, "restart", "Restart one or more containers"),
    "pause": Entry(_CONTAINERS, "pause", "Pause all processes within one or more containers"),
    "unpause": Entry(_CONTAINERS, "unpause", "Unpause all processes within one or more containers"),
    "kill": Entry(_CONTAINERS, "kill", "Kill one or more running containers"),
    "wait": Entry(_CONTAINERS, "wait", "Block until containers stop, then print their exit codes"),
    "rm": Entry(_CONTAINERS, "rm", "Remove one or more containers", in_userns=True),
    "inspect": Entry(_CONTAINERS, "inspect", "Show all that is known of containers or images"),
    "rename": Entry(_CONTAINERS, "rename", "Rename a container"),
    "update": Entry(_CONTAINERS, "update", "Update the limits of one or more containers"),
    "top": Entry(_CONTAINERS, "top", "Display the running processes of a container"),
    "stats": Entry(_CONTAINERS, "stats", "Display what containers use of the machine"),
    "port": Entry(_CONTAINERS, "port", "List the published ports of a container"),
    "cp": Entry(_CONTAINERS, "cp", "Copy files between a container and the host"),
    "diff": Entry(_CONTAINERS, "diff", "Show what a container changed in its root file system"),
    "export": Entry(_CONTAINERS, "export", "Export a container's file system as a tar archive"),
    "commit": Entry(_CONTAINERS, "commit", "Make an image of a container's changes"),
    "container prune": Entry("", "prune", "Remove all stopped containers", in_userns=True),
    "images": Entry(_IMAGES, "images", "List images"),
    "build": Entry(_IMAGES, "build", "Build an image from a Dockerfile", in_userns=True),
    "import": Entry(
        _IMAGES,
        "import_",
        "Make an image from the tar archive of a root file system",
        in_userns=True,
    ),
    "rmi": Entry(_IMAGES, "rmi", "Remove one or more images", in_userns=True),
    "pull": Entry(_IMAGES, "pull", "Download an image from a registry", in_userns=True),
    "push": Entry(_IMAGES, "push", "Upload an image to a registry", in_userns=True),
    "tag": Entry(_IMAGES, "tag", "Give an image a further name", in_userns=True),
    "history": Entry(_IMAGES, "history", "Show how an image was made", in_userns=True),
    "save": Entry(_IMAGES, "save", "Save images to an archive", in_userns=True),
    "load": Entry(_IMAGES, "load", "Load images from an archive", in_userns=True),
    "search": Entry(_IMAGES, "search", "Search a registry for images"),
    "login": Entry(_IMAGES, "login", "Authenticate to a registry"),
    "logout": Entry(_IMAGES, "logout", "Forget the credentials for a registry"),
    "builder prune": Entry(
        "", "builder:PRUNE", "Remove what builds keep for the next ones", in_userns=True
    ),
    "image bootstrap": Entry(
        _IMAGES, "bootstrap", "Make a Debian image from its mirror, without a registry"
    ),
    "image prune": Entry("", "prune_images", "Remove unused images", in_userns=True),
    "volume ls": Entry(_VOLUMES, "volume:LS", "List volumes"),
    "volume create": Entry(_VOLUMES, "volume:CREATE", "Create a volume", in_userns=True),
    "volume inspect": Entry(_VOLUMES, "volume:INSPECT", "Show all that is known of volumes"),
    "volume rm": Entry(_VOLUMES, "volume:RM", "Remove one or more volumes", in_userns=True),
    "volume prune": Entry(_VOLUMES, "volume:PRUNE", "Remove unused volumes", in_userns=True),
    "profile ls": Entry(_SBX, "profile:LS", "List profiles"),
    "profile show": Entry(_SBX, "profile:SHOW", "Show what a profile sets"),
    "system df": Entry(_SBX, "system:DF", "Show how much disk space is used", in_userns=True),
    "system prune": Entry(_SBX, "system:PRUNE", "Remove what is not used", in_userns=True),
    "system check": Entry(
        _SBX, "system:CHECK", "Check that the image store is whole", in_userns=True
    ),
    "system reset": Entry(
        _SBX, "system:RESET", "Remove all containers, images and volumes", in_userns=True
    ),
    "doctor": Entry(_SBX, "doctor", "Check this machine, say what mends it"),
    "completion": Entry(_SBX, "completion", "Print a completion script"),
    "version": Entry(_SBX, "version", "Show the version"),
}

# docker's management commands are other names for the same things.
_CONTAINER_COMMANDS = (
    *(
        "attach",
        "commit",
        "cp",
        "create",
        "diff",
        "exec",
        "export",
        "inspect",
        "kill",
        "logs",
        "pause",
    ),
    *("port", "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause"),
    *("update", "wait"),
)
ALIASES = {
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "image build": "build",
    "image ls": "images",
    "image list": "images",
    "image import": "import",
    "image rm": "rmi",
    "image pull": "pull",
    "image push": "push",
    "image tag": "tag",
    "image history": "history",
    "image save": "save",
    "image load": "load",
    "image inspect": "inspect",
    "buildx build": "build",
    "builder build": "build",
    "profile list": "profile ls",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    **{f"container {name}": name for name in _CONTAINER_COMMANDS},
}

GROUPS = frozenset(name.split()[0] for name in (*COMMANDS, *ALIASES) if " " in name)


def find(argv: list[str]) -> tuple[str, list[str]] | None:
    """Return the command that *argv* begins with and the rest, None when there is none."""
    for words in (2, 1):
        name = " ".join(argv[:words])
        name = ALIASES.get(name, name)
        if len(argv) >= words and name in COMMANDS:
            return name, argv[words:]
    return None

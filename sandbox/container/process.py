"""From "inside the namespaces" to the command: the identity, the limits, the filters, execve(2).

Used by the container's first process and by `exec` alike; the order matters and is the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import termios
from collections.abc import Callable
from contextlib import suppress

from sandbox.container.accounts import Account, find_account
from sandbox.container.plan import ProcessPlan
from sandbox.errors import CommandNotExecutable, CommandNotFound, InvalidSpec, SbxError
from sandbox.linux import capabilities, landlock, rlimits, seccomp
from sandbox.linux.syscalls import (
    PR_SET_NO_NEW_PRIVS,
    RESOLVE_NO_MAGICLINKS,
    close_range,
    join_session_keyring,
    openat2,
    prctl,
)

_CLOSE_RANGE_CLOEXEC = 4
_KEPT = 8 << 20  # bytes of a program that are read ahead
_READ_AHEAD = 128 << 10  # what posix_fadvise(2) makes a FUSE file system read at the most
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def open_terminal(root: int) -> tuple[int, int]:
    """Return (master, slave) of a new pty of the container's own devpts.

    The devpts is reached through the container's /dev, which its processes may have changed
    (`exec`): the device numbers are checked before the descriptor is used.
    """
    master = os.open("dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=root)
    status = os.fstat(master)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
        os.close(master)
        raise InvalidSpec("the container's /dev/pts/ptmx is not a terminal multiplexer")
    fcntl.ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
    # TIOCGPTPEER gives the slave without a look at any path (ioctl_tty(2)).
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def take_terminal(slave: int) -> None:
    """Make *slave* the controlling terminal and the standard streams of a new session."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for target in (0, 1, 2):
        os.dup2(slave, target)


def execute(
    plan: ProcessPlan,
    *,
    listener: Callable[[int], None],
    slave: int | None = None,
) -> None:
    """Become the command. Returns only by raising SbxError.

    Called with the container's root as root and all capabilities of its user namespace.
    *listener* takes the seccomp listener away (to the supervisor). Every descriptor above 2 closes
    on exec.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    account = find_account(root, plan.user)
    os.close(root)
    environment = _environment(plan, account)
    if slave is not None:
        _own_terminal(slave, account)
    _enter_cwd(plan, account)
    rlimits.apply(plan.ulimits)
    try:
        join_session_keyring()
    except OSError as err:
        if err.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    _reset_signals()
    os.umask(0o022)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if plan.landlock:
        landlock.restrict(scope_abstract_sockets=plan.host_network)
    groups = () if plan.single_uid else account.groups
    try:
        capabilities.drop_privileges(account.uid, account.gid, groups, plan.capabilities)
    except OSError as err:
        raise InvalidSpec(
            f"cannot become user {plan.user or 'root'} (uid {account.uid}, gid {account.gid})",
            detail=f"{err.strerror}; is the id mapped in this container?",
            hint="it has one user alone, as there are no subordinate ids (sbx doctor)"
            if plan.single_uid
            else None,
        ) from err
    _refuse_magic_links(plan.argv[0], environment)
    close_range(3, flags=_CLOSE_RANGE_CLOEXEC)
    # Last: nothing of ours runs below the filters but sendmsg and execve.
    _load_filters(plan, listener)
    _execve(plan.argv, environment)


def rehearse(plan: ProcessPlan) -> None:
    """Do once, in a container that has to wait, what will take time when it must not.

    This process's pages are copied now (it shares them with the process that it was forked from,
    until it writes to them), the overlay has been asked for the account and for the program, and
    the kernel keeps the latter's first megabytes.
    """
    capabilities.drop_bounding(capabilities.mask(plan.capabilities))
    _reset_signals()
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(SbxError):
        _environment(plan, find_account(root, plan.user))
    os.close(root)
    with suppress(SbxError):
        _refuse_magic_links(plan.argv[0], dict(plan.env))
    for candidate in _candidates(plan.argv[0], dict(plan.env)):
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            program = openat2(-100, candidate, flags, resolve=RESOLVE_NO_MAGICLINKS)
        except OSError:
            continue
        with suppress(OSError):
            for offset in range(0, min(os.fstat(program).st_size, _KEPT), _READ_AHEAD):
                os.posix_fadvise(program, offset, _READ_AHEAD, os.POSIX_FADV_WILLNEED)
        os.close(program)
        return


def _load_filters(plan: ProcessPlan, listener: Callable[[int], None]) -> None:
    for number, program in enumerate(plan.filters):
        wants_listener = plan.notify and number == len(plan.filters) - 1
        descriptor = seccomp.install(program, listener=wants_listener)
        if descriptor is not None:
            listener(descriptor)
            os.close(descriptor)


def _environment(plan: ProcessPlan, account: Account) -> dict[str, str]:
    environment = dict(plan.env)
    environment.setdefault("HOME", account.home)
    return environment


def _own_terminal(slave: int, account: Account) -> None:
    """The terminal belongs to the command's user, as a login would make it."""
    try:
        os.fchown(slave, account.uid, -1)
    except OSError:
        pass  # an id that is not mapped: the terminal stays root's


def _enter_cwd(plan: ProcessPlan, account: Account) -> None:
    try:
        if plan.create_cwd:
            os.makedirs(plan.cwd, 0o755, exist_ok=True)
        os.chdir(plan.cwd)
        os.getcwd()  # fails for one outside of the root, as by a leaked descriptor (CVE-2024-21626)
    except OSError as err:
        raise InvalidSpec(
            f"cannot change to the working directory {plan.cwd}", detail=err.strerror
        ) from err


def _reset_signals() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and that would be inherited (signal(7))."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _execve(argv: tuple[str, ...], environment: dict[str, str]) -> None:
    """Execute argv[0], looked for along PATH. Raises SbxError with docker's exit codes."""
    name = argv[0]
    failure: OSError | None = None
    for candidate in _candidates(name, environment):
        try:
            os.execve(candidate, argv, environment)
        except (FileNotFoundError, NotADirectoryError) as err:
            failure = failure or err
        except OSError as err:
            failure = err
            if err.errno != errno.EACCES:
                break
    raise _exec_error(name, failure)


def _candidates(name: str, environment: dict[str, str]) -> list[str]:
    if "/" in name:
        return [name]
    return [f"{path or '.'}/{name}" for path in environment.get("PATH", "").split(":")]


def _refuse_magic_links(name: str, environment: dict[str, str]) -> None:
    """Refuse a command that leads to a link of /proc, such as /proc/self/exe.

    That is the host's Python as yet: executed here, the container could change it where its file
    is the user's (CVE-2019-5736). Landlock would refuse it too.
    """
    for candidate in _candidates(name, environment):
        try:
            os.close(openat2(-100, candidate, os.O_PATH, resolve=RESOLVE_NO_MAGICLINKS))
        except OSError as err:
            if err.errno == errno.ELOOP:
                raise _exec_error(name, err) from err


def _exec_error(name: str, failure: OSError | None) -> SbxError:
    if failure is None or failure.errno in (errno.ENOENT, errno.ENOTDIR):
        where = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        return CommandNotFound(f'exec: "{name}": {where}')
    return CommandNotExecutable(f'exec: "{name}": {(failure.strerror or "").lower()}')

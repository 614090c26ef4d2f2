"""`--init`: a pid 1 of ours that forwards signals and reaps what nobody waits for.

Without it the command itself is pid 1, to which the kernel delivers no signal that it has no
handler for, and whose orphans stay zombies (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

_FORWARDED = signal.valid_signals() - {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGTTIN,
    signal.SIGTTOU,
}


def run_below_reaper(farewell: int) -> None:
    """Fork; return in the child, which goes on to execute the command. The parent never returns.

    It writes the command's exit code to the pipe *farewell* when the command has ended and nobody
    else is left: its own end takes the kernel longer (its memory is Python's).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        return
    _become_small(farewell)
    _reap(child, farewell)


def _become_small(farewell: int) -> None:
    """Let go of everything that the command's siblings could take over from pid 1."""
    from sandbox.linux.descriptors import close_all_but
    from sandbox.linux.syscalls import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl

    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    close_all_but((farewell,))


def _reap(child: int, farewell: int) -> None:
    """Wait for signals; leave with the command's exit status when it ends."""
    while True:
        information = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        if information.si_signo != signal.SIGCHLD:
            try:
                os.kill(child, information.si_signo)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(125)
            if pid == 0:
                break
            if pid == child:
                _leave(_exit_code(status), farewell)


def _leave(code: int, farewell: int) -> NoReturn:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        os.write(farewell, bytes((code,)))
    os._exit(code)  # the kernel ends who is left


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code

"""The client gives its environment and descriptors to nobody but a launcher of the same user."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.linux import idmap
from tests.sbx_command import Sbx

# Listens on the socket, as another user, and says what it gets.
LISTENER = """
import os, socket, sys
os.umask(0)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    while True:
        connection = listener.accept()[0]
        connection.settimeout(10)
        try:
            print(len(connection.recv(1 << 20)), flush=True)
        except OSError:
            print("nothing", flush=True)
        connection.close()
"""


def test_a_socket_of_another_user_gets_nothing(sbx: Sbx) -> None:
    """Where somebody else listens in the launcher's place, the client goes without (as in /tmp,
    where anybody may come first)."""
    user = str(os.getuid())
    if not idmap.read_subids("/etc/subuid", (os.environ.get("USER", user), user)):
        pytest.skip("needs subordinate ids")
    directory = sbx.directory / "run/sbx"
    directory.mkdir(mode=0o700)
    place = directory / f"launcher-{_key(sbx)}.sock"
    listener = _listen_as_somebody(sbx, directory, place)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        sbx.directory.chmod(0o711)

        result = sbx("ps", env={"SECRET": "hunter2"})

        got = listener.stdout.readline() if select.select([listener.stdout], [], [], 2)[0] else "0"
    finally:
        listener.kill()
        listener.communicate()
    place.unlink(missing_ok=True)
    assert result.returncode == 0
    assert int(got) == 0


def _key(sbx: Sbx) -> str:
    code = "from sandbox.call import launcher_key; print(launcher_key())"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.check_output(command, env=sbx.environ, text=True).strip()


def _listen_as_somebody(sbx: Sbx, directory: Path, place: Path) -> subprocess.Popen[str]:
    """Start the listener as a subordinate id, which is another user to the kernel."""
    directory.chmod(0o777)
    for parent in (sbx.directory, sbx.directory / "run"):
        parent.chmod(0o711)
    inside = ["setpriv", "--reuid", "1000", "--clear-groups", sys.executable, "-P", "-c", LISTENER]
    return subprocess.Popen(
        ["unshare", "--map-root-user", "--map-auto", *inside, str(place)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_supervisor_of_another_user_gets_nothing(sbx: Sbx) -> None:
    """The same for the socket of a container: nobody else is asked, or given the streams."""
    user = str(os.getuid())
    if not idmap.read_subids("/etc/subuid", (os.environ.get("USER", user), user)):
        pytest.skip("needs subordinate ids")
    # A launcher that just starts would close the directory again.
    cold = {"SBX_LAUNCHER": "off"}
    command = ("run", "-d", "--network", "none", "host", "sleep", "1000")
    started = sbx(*command, env=cold, check=True)
    container = started.stdout.strip()
    directory = sbx.directory / "run/sbx"
    place = directory / f"c-{container[:24]}"
    place.rename(directory / "its-own")
    listener = _listen_as_somebody(sbx, directory, place)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"

        attached = sbx("attach", container, env=cold)
        paused = sbx("pause", container, env=cold)

        # The connections were closed without a word.
        assert [listener.stdout.readline() for _ in range(2)] == ["0\n", "0\n"]
    finally:
        listener.kill()
        listener.communicate()
        place.unlink(missing_ok=True)
        (directory / "its-own").rename(place)
        directory.chmod(0o700)
    assert (attached.returncode, paused.returncode) == (125, 1)
    assert "does not answer" in attached.stderr
    assert "does not answer" in paused.stderr

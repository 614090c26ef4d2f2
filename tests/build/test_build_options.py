"""The options of `sbx build`, and sources from elsewhere."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.build.conftest import Builder, cached
from tests.registries import free_port, registry, wait_listening


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a web server of *directory*."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def git_served(directory: Path) -> Iterator[str]:
    """The URL of a git daemon with the repository *directory*."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    port = free_port()
    command = ["git", "daemon", "--export-all", f"--base-path={directory.parent}", "--reuseaddr"]
    with subprocess.Popen(
        [*command, "--listen=127.0.0.1", f"--port={port}"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_listening(port, process)
            yield f"git://127.0.0.1:{port}/{directory.name}"
        finally:
            process.terminate()


def make_repository(directory: Path) -> None:
    """A repository with a Dockerfile in `docker/` and the tag v1."""
    (directory / "docker").mkdir(parents=True)
    (directory / "docker/Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
    (directory / "docker/f").write_text("of the tag\n")
    git = ["git", "-C", str(directory), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    subprocess.run([*git, "tag", "v1"], check=True)
    (directory / "docker/f").write_text("of the branch\n")
    subprocess.run([*git, "commit", "-q", "-a", "-m", "two"], check=True)


def test_add_fetches_a_file_and_checks_its_digest(build: Builder, tmp_path: Path) -> None:
    """Mode 0600; another digest fails."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "f.txt").write_text("fetched\n")
    digest = hashlib.sha256(b"fetched\n").hexdigest()
    with served(site) as url:
        build(f"FROM busybox\nADD --checksum=sha256:{digest} {url}/f.txt /d/\n")
        wrong = build(
            f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {url}/f.txt /\n", check=False
        )
        missing = build(f"FROM busybox\nADD {url}/nothing /\n", check=False)

    assert build.run("sh", "-c", "cat /d/f.txt; stat -c %a /d/f.txt") == "fetched\n600\n"
    assert "digest mismatch" in wrong.stderr
    assert "status 404" in missing.stderr
    assert (wrong.returncode, missing.returncode) == (1, 1)


def test_a_repository_is_a_context_and_a_source(build: Builder, tmp_path: Path) -> None:
    """With a tag and a directory in it; ADD takes it without .git."""
    make_repository(tmp_path / "project")
    with git_served(tmp_path / "project") as url:
        build.sbx("build", "-q", "-t", "built", f"{url}#v1:docker", check=True)
        assert build.run("cat", "/f") == "of the tag\n"
        build(f"FROM busybox\nADD {url}#main /src\n")

    assert build.run("sh", "-c", "cat /src/docker/f; ls -A /src") == "of the branch\ndocker\n"


def test_an_archive_from_afar_is_a_context(build: Builder, tmp_path: Path) -> None:
    """The URL of a tar archive."""
    site = tmp_path / "site"
    site.mkdir()
    build.write({"Dockerfile": "FROM busybox\nCOPY f /f\n", "f": "packed\n"})
    with tarfile.open(site / "context.tar.gz", "w:gz") as tar:
        tar.add(build.context, ".")
    with served(site) as url:
        build.sbx("build", "-q", "-t", "built", f"{url}/context.tar.gz", check=True)

    assert build.run("cat", "/f") == "packed\n"


def test_cache_from_takes_steps_of_an_image_of_another_machine(
    build: Builder, tmp_path: Path
) -> None:
    """The keys of steps are in the image's history."""
    dockerfile = "FROM busybox\nRUN echo x > /x\nRUN echo y > /y\nENV A=1\n"
    with registry(tmp_path / "registry") as host:
        name = f"{host}/cached:1"
        build(dockerfile, "-t", name)
        build.sbx("push", "-q", name, check=True)
        build.sbx("rmi", "-f", name, "built", check=True)
        build.sbx("builder", "prune", "--all", "--force", check=True)

        again = build(dockerfile, "--cache-from", name)
        unknown = build(dockerfile, "--no-cache", "--cache-from", f"{host}/nothing:1")

    assert cached(again) == 2
    assert "not found" in unknown.stderr


def test_builder_prune_forgets_steps_and_image_prune_keeps_them(build: Builder) -> None:
    """What steps came to stays when the image goes."""
    dockerfile = "FROM busybox\nRUN echo x > /x\n"
    build(dockerfile)
    build.sbx("rmi", "built", check=True)
    assert cached(build(dockerfile)) == 1
    build.sbx("rmi", "built", check=True)

    freed = build.sbx("builder", "prune", "--force", check=True).stdout

    assert freed.startswith("Total:")
    assert cached(build(dockerfile)) == 0


def test_the_result_can_be_a_directory_or_an_archive(build: Builder, tmp_path: Path) -> None:
    """--output, in its forms; no image is made then."""
    dockerfile = "FROM scratch\nCOPY d /d\nCOPY x /x\n"
    build.write({"d/a": "1", "x": "2"})
    (build.context / "x").chmod(0o755)
    (build.context / "d/l").symlink_to("a")

    build(dockerfile, "--output", f"type=local,dest={tmp_path / 'out'}")
    build(dockerfile, "-o", f"type=tar,dest={tmp_path / 'out.tar'}")
    build(dockerfile, "-o", f"type=docker,dest={tmp_path / 'image.tar'}", "-t", "named")

    assert (tmp_path / "out/d/a").read_text() == "1"
    assert os.readlink(tmp_path / "out/d/l") == "a"
    assert (tmp_path / "out/x").stat().st_mode & 0o777 == 0o755
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert sorted(n for n in tar.getnames() if n != ".") == ["d", "d/a", "d/l", "x"]
    assert build.sbx("images", "-q", "built", check=True).stdout == ""
    build.sbx("load", "-q", "-i", tmp_path / "image.tar", check=True)
    assert build.sbx("images", "-q", "named", check=True).stdout != ""


def test_quiet_prints_the_id_and_iidfile_holds_it(build: Builder, tmp_path: Path) -> None:
    """Nothing else is printed."""
    result = build("FROM busybox\nRUN echo noise\n", "-q", "--iidfile", str(tmp_path / "id"))

    assert result.stdout.strip() == (tmp_path / "id").read_text()
    assert result.stderr == ""
    assert build.sbx("inspect", result.stdout.strip()).returncode == 0


def test_an_agents_socket_is_there_for_a_step(build: Builder, tmp_path: Path) -> None:
    """RUN --mount=type=ssh, with --ssh."""
    path = build.sbx.directory / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        dockerfile = 'FROM busybox\nRUN --mount=type=ssh,required test -S "$SSH_AUTH_SOCK"\n'
        build(dockerfile, "--no-cache", "--ssh", f"default={path}")
        build(dockerfile, "--no-cache", "--ssh", "default", env={"SSH_AUTH_SOCK": str(path)})
        without = build(dockerfile, "--no-cache", check=False)

    assert "ssh agent default: not found" in without.stderr


def test_a_build_argument_that_nothing_uses_is_told(build: Builder) -> None:
    """Proxies are used without an ARG, and are no part of the key."""
    dockerfile = 'FROM busybox\nRUN echo "$http_proxy" > /proxy\n'
    told = build(dockerfile, "--build-arg", "UNUSED=1", "--build-arg", "http_proxy=http://a")

    again = build(dockerfile, "--build-arg", "http_proxy=http://b")

    assert "were not consumed: UNUSED" in told.stderr
    assert build.run("cat", "/proxy") == "http://a\n"
    assert cached(again) == 1
    assert "http://a" not in json.dumps(build.document())


def test_network_of_steps(build: Builder) -> None:
    """none for all, default for one; host has to be granted."""
    build("FROM busybox\nRUN ls /sys/class/net > /net\n", "--network", "none")
    assert build.run("cat", "/net") == "lo\n"

    refused = build("FROM busybox\nRUN --network=host true\n", check=False)

    assert "--network=host is not granted" in refused.stderr


def test_what_a_context_links_to_outside_of_it_is_not_copied(build: Builder) -> None:
    """A link that leads out ends at the context's root; in a directory it is copied as it is."""
    build.write({"d/f": "1"})
    (build.context / "out").symlink_to("../../../../../../etc/passwd")
    (build.context / "d/out").symlink_to("/etc/passwd")

    result = build("FROM busybox\nCOPY out /\n", check=False)
    build("FROM busybox\nCOPY d /d\n")

    assert result.returncode == 1
    assert '"/out": not found' in result.stderr
    assert build.run("readlink", "/d/out") == "/etc/passwd\n"


def test_secrets_are_given_as_files_and_by_the_environment(build: Builder) -> None:
    """--secret with env; a required one that is missing fails."""
    dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s,required cat /run/secrets/s > /s\n"
    build(dockerfile, "--secret", "id=s,env=WORD", env={"WORD": "from the environment"})
    assert build.run("cat", "/s") == "from the environment"

    missing = build(dockerfile, "--no-cache", check=False)

    assert "secret s: not found" in missing.stderr


def test_two_builds_at_once_do_not_disturb_each_other(build: Builder) -> None:
    """Of the same Dockerfile, without a cache to begin with."""
    (build.context / "Dockerfile").write_text(
        "FROM busybox\nRUN echo a > /a\nCOPY . /c\nRUN ls /c > /b\n"
    )
    builds = [
        build.sbx.popen("build", "-q", "-t", f"built{n}", build.context, stdout=subprocess.DEVNULL)
        for n in range(3)
    ]

    assert [process.wait(60) for process in builds] == [0, 0, 0]
    for number in range(3):
        assert build.run("cat", "/b", image=f"built{number}") == "Dockerfile\n"


def test_an_interrupt_ends_a_build_and_all_its_steps(build: Builder) -> None:
    """Exit code 130, and nothing left (the fixture looks)."""
    (build.context / "Dockerfile").write_text(
        "FROM busybox AS a\nRUN sleep 1000\nFROM busybox\nCOPY --from=a /x /\nRUN sleep 1000\n"
    )
    process = build.sbx.popen("build", "--progress=plain", build.context, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"RUN sleep" not in process.stderr.readline():
        pass

    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    process.stderr.close()


def test_df_counts_what_builds_keep(build: Builder) -> None:
    """A row of its own; nothing is counted that images have, too."""
    build("FROM busybox\nRUN echo x > /x\n")

    def row() -> list[str]:
        lines = build.sbx("system", "df", check=True).stdout.splitlines()
        return next(line for line in lines if line.startswith("Build Cache")).split()

    assert row()[2:5] == ["1", "0", "0B"]
    build.sbx("rmi", "built", check=True)
    assert row()[2] == "1"
    assert row()[4] != "0B"

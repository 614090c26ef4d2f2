"""`sbx build`: what becomes of a Dockerfile."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.build.conftest import Builder, cached
from tests.build.flatten import read_image

pytestmark = pytest.mark.both_users


def test_a_dockerfile_becomes_an_image_that_runs(build: Builder) -> None:
    """Files, commands, variables and the working directory are those of the Dockerfile."""
    build.write({"src/a.txt": "from the context\n"})

    build(
        "FROM busybox\n"
        "ENV GREETING=hello\n"
        "WORKDIR /app\n"
        "COPY src/ .\n"
        'RUN echo "$GREETING" > made\n'
        'CMD ["cat", "a.txt", "made"]\n'
    )

    assert build.run() == "from the context\nhello\n"
    assert build.config()["WorkingDir"] == "/app"


def test_a_second_build_takes_all_steps_from_the_cache(build: Builder) -> None:
    """Nothing is carried out again, also when a file of the context was only touched."""
    build.write({"a": "1"})
    dockerfile = "FROM busybox\nRUN echo x > /x\nCOPY a /a\nRUN cat /a > /b\n"
    build(dockerfile)
    first = build.document()["rootfs"]
    os.utime(build.context / "a", (1, 1))

    again = build(dockerfile)

    assert cached(again) == 3
    assert build.document()["rootfs"] == first


def test_a_changed_file_is_copied_again_and_what_follows_is_done_again(build: Builder) -> None:
    """The steps before it come from the cache."""
    dockerfile = "FROM busybox\nRUN echo x > /x\nCOPY a /a\nRUN cat /a > /b\n"
    build.write({"a": "1"})
    build(dockerfile)
    build.write({"a": "2"})

    again = build(dockerfile)

    assert cached(again) == 1
    assert build.run("cat", "/b") == "2"


def test_stages_that_nothing_needs_are_not_built(build: Builder) -> None:
    """Only the target and what it depends on is."""
    result = build(
        "FROM busybox AS unused\nRUN false\n"
        "FROM busybox AS maker\nRUN echo made > /made\n"
        "FROM busybox\nCOPY --from=maker /made /made\n"
    )

    assert build.run("cat", "/made") == "made\n"
    assert "unused" not in result.stderr


def test_stages_without_dependence_are_built_at_the_same_time(build: Builder) -> None:
    """Each of two stages waits for the other through a shared cache mount; both end."""
    wait = "i=0; while [ ! -e /c/{other} ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done"
    run = "RUN --mount=type=cache,target=/c touch /c/{own}; " + wait + "; test -e /c/{other}\n"

    build(
        "FROM busybox AS one\n" + run.format(own="a", other="b") + "RUN echo 1 > /one\n"
        "FROM busybox AS two\n" + run.format(own="b", other="a") + "RUN echo 2 > /two\n"
        "FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    )

    assert build.run("cat", "/one", "/two") == "1\n2\n"


def test_a_failing_command_is_shown_with_its_line_and_its_output(build: Builder) -> None:
    """The error points at the Dockerfile and repeats what the step printed last."""
    result = build("FROM busybox\nRUN echo before; \\\n    exit 3\nCMD x\n", check=False)

    assert result.returncode == 1
    assert result.stderr.endswith("did not complete successfully: exit code: 3\n")
    assert ">>> RUN echo before; \\" in result.stderr
    assert "Dockerfile:2" in result.stderr
    assert "\nbefore\n------" in result.stderr


@pytest.mark.parametrize(
    ("dockerfile", "message", "line"),
    [
        ("FROM busybox\nFOO x\n", "unknown instruction: FOO", 2),
        ("FROM busybox\nCOPY nothing /\n", '"/nothing": not found', 2),
        ("RUN x\n", "RUN before FROM", 1),
        ("FROM busybox\n\nENV x\n", "ENV must have two arguments", 3),
        ("FROM busybox\nCOPY --what=1 a b\n", "unknown flag: --what", 2),
        ("FROM busybox\nRUN --security=insecure true\n", "never granted", 2),
        ("FROM host\n", "host can't be the base", 1),
        ("FROM busybox\nCOPY ${X:?missing} /\n", "X: missing", 2),
        ("FROM busybox\nRUN <<EOF\nx\n", "unterminated heredoc", 2),
    ],
)
def test_what_is_wrong_is_shown_in_its_line(
    build: Builder, dockerfile: str, message: str, line: int
) -> None:
    """A clear error, the line, and exit code 1."""
    result = build(dockerfile, check=False)

    assert result.returncode == 1
    assert message in result.stderr
    assert f"Dockerfile:{line}\n" in result.stderr


def test_a_dockerfile_on_standard_input_needs_no_context(build: Builder) -> None:
    """`sbx build -` reads a Dockerfile; the context is empty."""
    build.sbx("build", "-t", "built", "-", input="FROM busybox\nRUN echo 1 > /x\n", check=True)

    assert build.run("cat", "/x") == "1\n"


def test_an_archive_is_a_context(build: Builder) -> None:
    """A tar file at a path below the URL or on standard input holds Dockerfile and files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (("Dockerfile", "FROM busybox\nCOPY f /f\n"), ("f", "content\n")):
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(text), 123456
            tar.addfile(info, io.BytesIO(text.encode()))
    path = build.context / "context.tar.gz"
    path.write_bytes(packed.getvalue())

    with open(path, "rb") as stream:
        process = build.sbx.popen("build", "-q", "-t", "built", "-", stdin=stream)
        assert process.wait(60) == 0

    assert build.run("cat", "/f") == "content\n"


def test_the_ignored_is_not_copied(build: Builder) -> None:
    """.dockerignore, with exceptions."""
    build.write(
        {".dockerignore": "*.log\n!keep.log\nd/**\n", "a.log": "", "keep.log": "", "d/x": ""}
    )

    build("FROM busybox\nCOPY . /c/\n")

    assert build.run("sh", "-c", "cd /c; find . -type f | sort").split() == [
        "./.dockerignore",
        "./Dockerfile",
        "./keep.log",
    ]


def test_the_same_source_date_epoch_gives_the_same_image(build: Builder) -> None:
    """Two builds without a cache have one id, bit by bit."""
    build.write({"f": "x"})
    dockerfile = "FROM busybox\nRUN date > /dev/null; touch /y; mkdir /d\nCOPY f /d/\nWORKDIR /w\n"
    ids = []
    for time in (1_600_000_000, 1_700_000_000):
        os.utime(build.context / "f", (time, time))
        ids.append(
            build(
                dockerfile, "-q", "--no-cache", env={"SOURCE_DATE_EPOCH": "1500000000"}
            ).stdout.strip()
        )

    assert ids[0] == ids[1]
    assert ids[0].startswith("sha256:")


def test_a_step_leaves_files_to_their_owners(build: Builder, tmp_path: Path) -> None:
    """Also where a user without subordinate ids sees all of them as its own."""
    build.write({"a": "1\n"})
    archive = tmp_path / "built.tar"

    build(
        "FROM busybox\nCOPY --chown=7:8 a /a\nRUN echo 2 >> /a; chmod 640 /a\nUSER nobody\n"
        "RUN echo 3 > /tmp/n\n",
        "-o",
        f"type=oci,dest={archive}",
    )

    _, trees = read_image(archive)
    assert trees[-1]["/a"] == {
        "type": "file",
        "mode": "0640",
        "owner": "7:8",
        "content": "1\n2\n",
    }
    assert trees[-1]["/tmp/n"]["owner"] == "65534:65534"
    assert trees[-1]["/etc"] == trees[0]["/etc"]
    assert trees[-1]["/tmp"]["owner"] == "0:0"


def test_mounts_leave_nothing_in_the_image(build: Builder) -> None:
    """Neither content nor places to mount on of secrets, caches, binds and tmpfs."""
    build.write({"secret": "s3cr3t-w0rd", "f": "bound\n"})
    mounts = (
        "--mount=type=secret,id=s,required "
        "--mount=type=cache,target=/var/cache/c "
        "--mount=type=bind,target=/src "
        "--mount=type=tmpfs,target=/t/t"
    )

    build(
        f"FROM busybox\nRUN {mounts} cat /run/secrets/s | md5sum > /sum; touch /t/t/x "
        "/var/cache/c/x; cat /src/f > /f\n",
        "--secret",
        f"id=s,src={build.context / 'secret'}",
    )

    found = build.run(
        "sh", "-c", "cat /f; find /t /src /run/secrets /var/cache 2>/dev/null; ls /proc | wc -l"
    )
    assert found.startswith("bound\n")
    assert len(found.splitlines()) == 2
    data = build.sbx.directory / "data"
    for directory, _, names in os.walk(data):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and os.access(path, os.R_OK):
                with open(path, "rb") as file:
                    assert b"s3cr3t-w0rd" not in file.read()

"""Names of images are read as docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import InvalidSpec
from sandbox.image.reference import parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("ghcr.io/a/b_c.d__e-f:V.1", "ghcr.io/a/b_c.d__e-f:V.1", "ghcr.io/a/b_c.d__e-f:V.1"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_a_reference_has_a_full_and_a_familiar_form(text: str, full: str, familiar: str) -> None:
    """Registry, library/ and latest are added in full, and left out again for people."""
    reference = parse_reference(text)

    assert (str(reference), reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Debian",
        "a/B",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a:",
        "a: b",
        "a@sha256:12",
        "a@md5:" + "0" * 32,
        "a:" + "x" * 129,
        "a" * 256,
        "ab" * 32,
        "a\nb",
        "a..b",
        "../../etc/passwd",
        "a:b:c/d:e@",
        "\x1b[31m",
    ],
)
def test_what_is_no_reference_is_refused_clearly(text: str) -> None:
    """A name outside the grammar raises InvalidSpec with a hint."""
    with pytest.raises(InvalidSpec) as refusal:
        parse_reference(text)

    assert refusal.value.hint


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    """Parsing ends in a reference that reads the same again, or in InvalidSpec."""
    try:
        reference = parse_reference(text)
    except InvalidSpec:
        return

    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference

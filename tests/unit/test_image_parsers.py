"""What others wrote is read or refused with a clear error: never another exception."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.errors import InvalidSpec, SbxError, StoreError
from sandbox.image.apply_layer import apply_layer
from sandbox.image.changes import apply_changes
from sandbox.image.config import ImageConfig, parse_config_document
from sandbox.image.descriptor import Descriptor, parse_descriptor
from sandbox.image.limits import LayerLimits
from sandbox.image.manifest import parse_index, parse_manifest
from sandbox.image.platform import parse_platform_option
from sandbox.image.reference import Reference, parse_reference
from sandbox.image.registry import credentials
from sandbox.image.registry.challenge import parse_challenges
from sandbox.image.registry.endpoints import endpoints
from sandbox.image.tar_stream import TarStream
from tests.archives import Archive

DIGEST = "sha256:" + "a" * 64
# Few characters of each kind that matters: quicker to draw than all of Unicode.
letters = st.sampled_from("aA09/:.@_-= \0\n\x1b\u00e9\u202e\U0001f600")
texts = st.text(letters, max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def documents(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of the keys with any values, or with such that are nearly right."""
    descriptor = st.fixed_dictionaries(
        {"digest": st.just(DIGEST) | texts, "size": st.integers() | json_values},
        optional={"mediaType": texts, "urls": json_values, "platform": json_values},
    )
    values = json_values | descriptor | st.lists(descriptor, max_size=2)
    return st.dictionaries(st.sampled_from(keys), values, max_size=len(keys))


@given(documents("schemaVersion", "config", "layers", "mediaType", "annotations"))
def test_any_manifest_is_read_or_refused(value: dict[str, Any]) -> None:
    """A manifest that is nearly right is an error that says what is not."""
    data = json.dumps({"schemaVersion": 2} | value).encode()
    with contextlib.suppress(StoreError):
        parse_manifest(Descriptor("", DIGEST, 0), data)


@given(documents("manifests", "mediaType"))
def test_any_index_is_read_or_refused(value: dict[str, Any]) -> None:
    """An index is a list of descriptors or an error; each can be written again."""
    with contextlib.suppress(StoreError):
        for entry in parse_index(json.dumps(value).encode()):
            assert parse_descriptor(entry.to_json()).digest == entry.digest


@given(texts | st.from_regex(r"[a-z./:@_-]{0,40}", fullmatch=True))
def test_what_is_a_reference_reads_the_same_again(text: str) -> None:
    """A name in full means itself."""
    with contextlib.suppress(InvalidSpec):
        reference = parse_reference(text)
        assert parse_reference(str(reference)) == reference
        assert parse_reference(reference.familiar) == reference


@given(
    st.dictionaries(
        st.sampled_from(["auths", "credHelpers", "credsStore"]),
        json_values
        | st.dictionaries(
            st.sampled_from(["docker.io", "https://index.docker.io/v1/", "host"]),
            json_values
            | st.dictionaries(
                st.sampled_from(["auth", "username", "password", "identitytoken"]),
                json_values | st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode()),
            ),
        ),
    )
    | json_values
)
@example({"auths": {"docker.io": {"auth": "é"}}})
def test_any_file_of_credentials_is_read_or_refused(value: Any) -> None:
    """docker's config.json may hold anything: no helper is run by a path, nothing breaks."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.json")
        path.write_text(json.dumps(value))
        environ = {"REGISTRY_AUTH_FILE": str(path), "PATH": directory}
        with contextlib.suppress(SbxError):
            credentials.find("docker.io", environ)
        with contextlib.suppress(SbxError):
            credentials.save("docker.io", credentials.Credentials("me", "secret"), environ)
            assert credentials.find("docker.io", environ) is not None
        with contextlib.suppress(SbxError):
            credentials.forget("docker.io", environ)


toml_values = st.sampled_from(
    ["1", "true", '"docker.io"', '"host:5000/team"', '""', "[]", "{}", "[1]", '[{location="a"}]']
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["prefix", "location", "mirror", "insecure", "blocked"]), toml_values
        ),
        max_size=3,
    ),
    st.sampled_from(["[[registry]]", "[registry]", "registry = 3", "[[[", "[[registry]]\nmirror"]),
)
def test_any_registries_conf_is_read_or_refused(tables: list[dict[str, str]], heading: str) -> None:
    """A file with the wrong types in it is an error that names the file."""
    lines = []
    for table in tables:
        lines += [heading, *(f"{key} = {value}" for key, value in table.items())]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "registries.conf")
        path.write_text("\n".join(lines))
        environ = {"CONTAINERS_REGISTRIES_CONF": str(path)}
        for name in ("docker.io/library/debian", "host:5000/team/app"):
            reference = Reference(*name.split("/", 1), tag="1")
            with contextlib.suppress(SbxError):
                assert endpoints(reference, environ)


@given(st.lists(texts | st.from_regex(r'[a-zA-Z="\\, ]{0,40}', fullmatch=True)))
def test_any_challenge_is_read(headers: list[str]) -> None:
    """A WWW-Authenticate header that is none asks for nothing."""
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


@given(texts)
def test_any_change_is_applied_or_refused(text: str) -> None:
    """`--change` and `--platform` take what they understand."""
    for word in ("CMD", "ENV", "EXPOSE", "LABEL", "VOLUME", "USER", "WORKDIR", ""):
        with contextlib.suppress(InvalidSpec):
            apply_changes(ImageConfig(), [f"{word} {text}"])
    with contextlib.suppress(InvalidSpec):
        parse_platform_option(text)


_BASE = (
    Archive()
    .directory("d", mode=0o700)
    .file("d/f", b"content", pax_headers={"SCHILY.xattr.user.a": "b", "path": "d/long"})
    .symlink("s", "d/f")
    .hard_link("h", "d/long")
    .file("d/.wh.x")
    .fifo("p")
    .bytes()
)


@given(st.lists(st.tuples(st.integers(0, len(_BASE) - 1), st.integers(0, 255)), max_size=6))
def test_a_damaged_layer_is_applied_or_refused(changes: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed: StoreError or a tree, and nothing outside of its directory."""
    data = bytearray(_BASE)
    for at, value in changes:
        data[at] = value
        _mend_checksum(data, at)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "root")
        root.mkdir()
        descriptor = os.open(root, os.O_RDONLY)
        try:
            with contextlib.suppress(StoreError):
                apply_layer(TarStream(iter([bytes(data)])), descriptor, "recorded", LayerLimits())
        finally:
            os.close(descriptor)
        assert os.listdir(place) == ["root"]
        os.chmod(root, 0o700)


def _mend_checksum(data: bytearray, at: int) -> None:
    """Let the header that byte *at* is in, if it is in one, be accepted in spite of the change."""
    start = at // 512 * 512
    block = data[start : start + 512]
    if block[257:262] == b"ustar":
        total = sum(block) - sum(block[148:156]) + 256
        data[start + 148 : start + 156] = b"%06o\0 " % total


@pytest.mark.parametrize("keyword", ["path", "linkpath", "GNU.sparse.name"])
def test_a_name_with_a_zero_byte_is_refused(keyword: str) -> None:
    """No system call takes such a name: the archive is damaged."""
    headers = {keyword: "a\0b", "GNU.sparse.major": "1"}
    archive = Archive().symlink("s", "t", pax_headers=headers).bytes()

    with pytest.raises(StoreError):
        list(TarStream(iter(io.BytesIO(archive))))


def test_halves_of_characters_are_refused() -> None:
    """A surrogate without its other half is no text that could be shown."""
    with pytest.raises(StoreError):
        parse_config_document(b'{"history": [{"created_by": "\\ud800"}]}')
    assert parse_config_document(b'{"author": "\\ud83d\\ude00"}').author == "\N{GRINNING FACE}"

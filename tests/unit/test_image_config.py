"""The documents of an image are checked before they are believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import InvalidSpec, StoreError
from sandbox.image.changes import apply_changes
from sandbox.image.config import (
    ConfigDocument,
    ImageConfig,
    config_to_json,
    parse_config,
    parse_config_document,
    to_json,
)
from sandbox.image.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, Platform
from sandbox.image.manifest import parse_index, parse_manifest
from sandbox.image.platform import choose, parse_platform_option

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
DIGEST = "sha256:" + "0" * 64


def test_a_document_reads_as_it_was_written() -> None:
    """Writing and reading a config keeps all that sbx knows."""
    document = ConfigDocument(
        Platform("linux", "arm64", "v8"),
        ImageConfig(
            env=(("PATH", "/bin"), ("EMPTY", "")),
            entrypoint=("/init",),
            cmd=("a", "b c"),
            workdir="/srv",
            user="1000:50",
            labels=(("k", "v"),),
            exposed_ports=("80/tcp",),
            volumes=("/data",),
            stop_signal="SIGINT",
            healthcheck={"Test": ["NONE"]},
            onbuild=("RUN x",),
        ),
        (DIGEST,),
        1700000000.5,
        "somebody",
        ({"created_by": "x"},),
    )

    assert parse_config_document(json.dumps(to_json(document)).encode()) == document


@given(json_values, st.sampled_from(["config", "rootfs", "history", "created", "os", "author"]))
def test_any_value_in_a_config_is_read_or_refused(value: Any, key: str) -> None:
    """A hostile config is a StoreError, never another exception."""
    try:
        parse_config_document(json.dumps({key: value}).encode())
    except StoreError:
        pass


@given(st.dictionaries(st.sampled_from(["Env", "Cmd", "Labels", "Volumes", "User"]), json_values))
def test_any_value_in_its_config_part_is_read_or_refused(value: Any) -> None:
    """What is read can be written again."""
    try:
        config = parse_config(value)
    except StoreError:
        return

    assert parse_config(config_to_json(config)).env == config.env


@given(st.binary(max_size=200) | st.builds(lambda v: json.dumps(v).encode(), json_values))
def test_any_bytes_as_a_manifest_are_read_or_refused(data: bytes) -> None:
    """A hostile manifest or index is a StoreError."""
    for parse in (lambda d: parse_manifest(Descriptor("", DIGEST, 0), d), parse_index):
        try:
            parse(data)
        except StoreError:
            pass


def test_nesting_without_end_is_refused() -> None:
    """JSON nested deeper than the interpreter can follow is damaged JSON."""
    with pytest.raises(StoreError):
        parse_config_document(b"[" * 100_000)


def test_a_manifest_whose_digests_lead_elsewhere_is_refused() -> None:
    """A digest becomes a file's name only when it is one."""
    config = {"mediaType": OCI_CONFIG, "digest": "sha256:../../../etc/passwd", "size": 1}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}

    with pytest.raises(StoreError, match="damaged descriptor"):
        parse_manifest(Descriptor("", DIGEST, 0), json.dumps(manifest).encode())


def test_the_platform_chooses_the_manifest() -> None:
    """The exact variant wins, then any variant, and what is offered is said otherwise."""
    offered = [
        Descriptor("m", DIGEST, 1, platform=Platform("linux", "amd64")),
        Descriptor("m", DIGEST, 2, platform=Platform("linux", "arm", "v6")),
        Descriptor("m", DIGEST, 3, platform=Platform("linux", "arm", "v7")),
    ]

    assert choose(offered, parse_platform_option("linux/arm/v7")).size == 3
    assert choose(offered, parse_platform_option("arm")).size == 2
    with pytest.raises(Exception, match="linux/riscv64"):
        choose(offered, parse_platform_option("riscv64"))


def test_changes_are_dockerfile_instructions() -> None:
    """--change sets what the instruction of a Dockerfile sets."""
    config = apply_changes(
        ImageConfig(),
        [
            'CMD ["python3", "-V"]',
            "entrypoint run me",
            'ENV A=1 B="two words"',
            "ENV OLD form of it",
            "EXPOSE 80 53/udp",
            "LABEL a=b",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER 1000",
            "STOPSIGNAL SIGINT",
            'VOLUME ["/data"]',
        ],
    )

    assert config.cmd == ("python3", "-V")
    assert config.entrypoint == ("/bin/sh", "-c", "run me")
    assert config.env == (("A", "1"), ("B", "two words"), ("OLD", "form of it"))
    assert config.exposed_ports == ("80/tcp", "53/udp")
    assert config.labels == (("a", "b"),)
    assert (config.workdir, config.user, config.stop_signal) == ("/srv/app", "1000", "SIGINT")
    assert config.volumes == ("/data",)


@pytest.mark.parametrize("change", ["RUN x", "", "EXPOSE http", "EXPOSE 70000", "ENV", 'ENV A="'])
def test_other_changes_are_refused(change: str) -> None:
    """What is not allowed or not understood raises InvalidSpec."""
    with pytest.raises(InvalidSpec):
        apply_changes(ImageConfig(), [change])

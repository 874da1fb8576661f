"""Manifests and configurations that strangers wrote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ImageError
from composer.images import config as formats
from composer.images.changes import changed
from composer.images.config import Platform, choose, platform
from composer.images.documents import ImageConfig, Index

DIGEST = "sha256:" + "0" * 64
CONFIG = {"mediaType": formats.OCI_CONFIG, "digest": DIGEST, "size": 2}
LAYER = {"mediaType": f"{formats.OCI_LAYER}+gzip", "digest": DIGEST, "size": 5}
MANIFEST = {"schemaVersion": 2, "mediaType": formats.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "mediaType": formats.OCI_INDEX, "manifests": []}


def test_a_manifest() -> None:
    parsed = formats.parse_manifest(json.dumps(MANIFEST).encode(), formats.OCI_MANIFEST)
    assert parsed["layers"][0]["size"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": 1}, "schema version 1"),
        ({"manifests": []}, "no manifest and no index"),
        ({"mediaType": formats.DOCKER_MANIFEST}, "announced as"),
        ({"mediaType": formats.OCI_INDEX}, "announced as"),
        (
            {"config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}},
            "not a container image",
        ),
        ({"config": {**CONFIG, "digest": "md5:1"}}, "no valid digest"),
        ({"config": None}, "no media type"),
        ({"layers": {}}, "not a list"),
        ({"layers": [LAYER] * 501}, "at most 500"),
        ({"layers": [{**LAYER, "size": -1}]}, "no valid size"),
        ({"layers": [{**LAYER, "size": True}]}, "no valid size"),
        ({"layers": [{**LAYER, "mediaType": "text/html"}]}, "not supported"),
    ],
)
def test_manifests_that_are_none(change: dict[str, object], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.parse_manifest(json.dumps({**MANIFEST, **change}).encode(), formats.OCI_MANIFEST)


def test_an_index_is_no_manifest_and_the_other_way_round() -> None:
    """So indexes cannot be nested, and cannot be cyclic."""
    with pytest.raises(ImageError):
        formats.parse_manifest(json.dumps(INDEX).encode())
    with pytest.raises(ImageError):
        formats.parse_index(json.dumps(MANIFEST).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 100_000, b"[" * 100_000, b" " * (9 << 20)])
def test_bytes_that_are_no_document(data: bytes) -> None:
    with pytest.raises(ImageError):
        formats.parse_document(data)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"rootfs": None},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {}, "config": []},
        {"rootfs": {}, "config": {"Env": "A=b"}},
        {"rootfs": {}, "config": {"Cmd": [1]}},
        {"rootfs": {}, "config": {"WorkingDir": 7}},
        {"rootfs": {}, "history": {}},
        {"rootfs": {}, "history": ["x"]},
        {"rootfs": {}, "history": [{"created_by": 1}]},
        {"rootfs": {}, "os": ["linux"]},
        {"rootfs": {}, "created": 7},
        {"rootfs": {}, "config": {"Env": ["A=\0"]}},
        {"rootfs": {}, "config": {"WorkingDir": "/\0"}},
        {"rootfs": {}, "config": {"Labels": {"a": 1}}},
        {"rootfs": {}, "config": {"Healthcheck": {"Test": "x"}}},
        {"rootfs": {}, "config": {"Healthcheck": {"Interval": "1s"}}},
    ],
)
def test_configurations_that_are_none(value: object) -> None:
    with pytest.raises(ImageError):
        formats.parse_config(json.dumps(value).encode())


def test_what_is_null_is_absent() -> None:
    value = {"rootfs": {}, "os": None, "history": None, "config": {"Env": None, "Healthcheck": None}}
    assert formats.parse_config(json.dumps(value).encode())["os"] == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rootfs", "diff_ids", "config", "Env", "layers", "manifests"]), inner
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_parsed_or_refused(value: object) -> None:
    data = json.dumps({**MANIFEST, **value} if isinstance(value, dict) else value).encode()
    for parse in (formats.parse_document, formats.parse_config):
        try:
            parse(data)
        except ImageError as error:
            assert error.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("x86_64", Platform("linux", "amd64")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("Linux/ARM/v6", Platform("linux", "arm", "v6")),
    ],
)
def test_platforms(text: str, expected: Platform) -> None:
    assert platform(text) == expected


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/", "/amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ImageError):
        platform(text)


def index(*platforms: str) -> Index:
    parts = [dict(zip(("os", "architecture", "variant"), p.split("/"), strict=False)) for p in platforms]
    manifests = [{**CONFIG, "digest": f"sha256:{n:064}", "platform": p} for n, p in enumerate(parts)]
    return formats.parse_index(json.dumps({**INDEX, "manifests": manifests}).encode())


@pytest.mark.parametrize(
    ("wanted", "offered", "number"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], 2),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
    ],
)
def test_choosing(wanted: str, offered: list[str], number: int) -> None:
    assert choose(index(*offered), platform(wanted))["digest"] == f"sha256:{number:064}"


def test_nothing_to_choose() -> None:
    with pytest.raises(ImageError, match="linux/arm/v6") as refused:
        choose(index("linux/arm/v7", "windows/amd64"), platform("linux/arm/v6"))
    assert refused.value.hint == "it is there for linux/arm/v7, windows/amd64"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b"]', {"Cmd": ["a", "b"]}),
        ("CMD a b", {"Cmd": ["/bin/sh", "-c", "a b"]}),
        ('ENV A=1 B="two words"', {"Env": ["A=1", "B=two words"]}),
        ("env A old form", {"Env": ["A=old form"]}),
        ("EXPOSE 80 53/udp", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        ("LABEL a.b=c", {"Labels": {"a.b": "c"}}),
        ('VOLUME ["/x"]', {"Volumes": {"/x": {}}}),
        ("VOLUME /x /y", {"Volumes": {"/x": {}, "/y": {}}}),
        ("USER me", {"User": "me"}),
        ("WORKDIR /srv", {"WorkingDir": "/srv"}),
        ("STOPSIGNAL TERM", {"StopSignal": "TERM"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
    ],
)
def test_changes(change: str, expected: dict[str, object]) -> None:
    before: ImageConfig = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    assert changed(before, (change,)) == {**before, "config": expected}


def test_an_entrypoint_clears_the_command() -> None:
    before: ImageConfig = {"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}}
    after = changed(before, ("CMD x", "ENV A=1", 'ENTRYPOINT ["y"]', "ENV A=2"))
    assert after["config"] == {"Env": ["A=2"], "Entrypoint": ["y"]}


@pytest.mark.parametrize("change", ["RUN x", "", "ENV", "ENV A", 'ENV "A=1', "LABEL a=1 b"])
def test_what_is_no_change(change: str) -> None:
    before: ImageConfig = {"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}}
    with pytest.raises(ImageError):
        changed(before, (change,))

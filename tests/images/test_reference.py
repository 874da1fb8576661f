"""Names of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ImageError
from composer.images.reference import Reference, is_digest, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "latest", None),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", None),
        ("me/app", "docker.io", "me/app", "latest", None),
        ("docker.io/busybox", "docker.io", "library/busybox", "latest", None),
        ("index.docker.io/me/app", "docker.io", "me/app", "latest", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/app:1", "localhost:5000", "app", "1", None),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
        ("ghcr.io/a/b/c/d:Tag_1.2-3", "ghcr.io", "a/b/c/d", "Tag_1.2-3", None),
        ("Registry/app", "Registry", "app", "latest", None),
        ("a__b/c--d.e_f", "docker.io", "a__b/c--d.e_f", "latest", None),
        (f"busybox@{DIGEST}", "docker.io", "library/busybox", None, DIGEST),
        (f"test:5000/repo:tag@{DIGEST}", "test:5000", "repo", "tag", DIGEST),
    ],
)
def test_full_names(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    reference = parse(text)
    assert reference == Reference(registry, repository, tag, digest)
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "give a name"),
        ("Busybox", "lower case"),
        ("docker.io/Me/app", "lower case"),
        ("a b", "white space"),
        ("https://ghcr.io/me/app", "https://"),
        (":tag", "looks like"),
        ("a:", "looks like"),
        ("a:-x", "looks like"),
        ("a/", "looks like"),
        ("/a", "looks like"),
        ("a//b", "looks like"),
        ("-a", "looks like"),
        ("a_", "looks like"),
        ("a@", "looks like"),
        ("a@sha256:abc", "64 hexadecimal"),
        ("a@md5:" + "a" * 32, "64 hexadecimal"),
        ("a" * 64, "nginx"),
        ("a:" + "b" * 129, "looks like"),
        ("é", "looks like"),
    ],
)
def test_what_is_no_name(text: str, hint: str) -> None:
    with pytest.raises(ImageError) as refused:
        parse(text)
    assert hint in str(refused.value.hint)


def test_length_is_bounded() -> None:
    parse("a/" * 120 + "a")
    with pytest.raises(ImageError, match="255"):
        parse("a/" * 130 + "a")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("docker.io/library/nginx", "nginx:latest"),
        ("me/app:1", "me/app:1"),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
    ],
)
def test_familiar(text: str, short: str) -> None:
    assert parse(text).familiar == short
    assert parse(short) == parse(text)


@given(st.text())
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        assert parse(str(parse(text))) == parse(text)
    except ImageError as error:
        assert error.message


def test_digests() -> None:
    assert is_digest("sha512:" + "0" * 128)
    assert not is_digest("sha256:" + "A" * 64)
    assert not is_digest("sha256")

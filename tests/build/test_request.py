"""From the stack file's `build:` to requests."""

from __future__ import annotations

import pytest

from composer.build.request import CachePlace, Options, requests
from composer.errors import UsageError
from composer.model.stack import Build, BuildSecret, FileSource, Service, Stack

IMAGES = {"a": "s-a", "b": "own:1"}


def stack(**builds: Build) -> Stack:
    services = {name: Service(name, build=build) for name, build in builds.items()}
    return Stack("s", services, secrets={"x": FileSource("x", "s_x", content="hush")})


def test_names_arguments_and_secrets() -> None:
    build = Build(
        ".", args={"A": "1", "B": "2", "C": None}, tags=("t:1", "own:1"), secrets=(BuildSecret("x", "id"),)
    )
    (found,) = requests(stack(b=build), IMAGES, ["b"], Options(args={"B": "3"}), {})
    assert found.images == ("own:1", "t:1")
    assert found.args == {"A": "1", "B": "3"}
    assert found.secret("id") == b"hush" and found.secret("x") is None


def test_what_a_build_is_made_from_comes_first() -> None:
    builds = {"a": Build("."), "b": Build(".", additional_contexts={"base": "service:a"})}
    found = requests(stack(**builds), IMAGES, ["b"], Options(), {})
    assert [request.name for request in found] == ["a", "b"]
    assert found[1].contexts == {"base": "docker-image://s-a"}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Build(".", additional_contexts={"x": "service:b"}), "made from each other"),
        (Build(".", additional_contexts={"x": "service:none"}), "has no `build:`"),
        (Build(".", additional_contexts={"x": "oci-layout:///srv/x"}), "no oci-layout: contexts"),
        (Build(".", platforms=("linux/s390x",)), "another machine"),
        (Build(".", entitlements=("everything",)), "entitlement"),
        (Build(".", cache_to=("type=local,ref=x",)), "ref is not known"),
        (Build(".", cache_to=("type=local,mode=max",)), "does not say where"),
        (Build(".", cache_from=("type=registry,ref=x,mode=min",)), "mode is not known"),
        (Build(".", ssh=("default",)), "SSH_AUTH_SOCK"),
        (Build(".", ssh=("key=/nowhere/at/all",)), "nothing at"),
    ],
)
def test_what_cannot_be(build: Build, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        requests(stack(b=build), IMAGES, ["b"], Options(), {})


def test_what_has_no_effect_is_said() -> None:
    build = Build(
        ".", isolation="hyperv", cache_to=("type=gha,scope=x", "type=registry,ref=y,compression=gzip")
    )
    (found,) = requests(stack(a=build), IMAGES, ["a"], Options(), {})
    assert [text.split(": ")[1].split()[0] for text in found.warnings] == [
        "build.isolation",
        "build.cache_to",
        "build.cache_to",
    ]
    assert found.cache_to == (CachePlace("y"),)


def test_buildkits_own_arguments_and_what_secrets_cannot_have() -> None:
    build = Build(".", args={"BUILDKIT_INLINE_CACHE": "1"}, secrets=(BuildSecret("x", "id", mode=0o444),))
    (found,) = requests(stack(b=build), IMAGES, ["b"], Options(), {})
    assert found.cache_inline and found.builtin("INLINE_CACHE") and not found.builtin("MULTI_PLATFORM")
    assert any("mode of build.secrets" in text for text in found.warnings)


def test_where_steps_travel() -> None:
    build = Build(
        ".",
        cache_from=("app:cache", "type=local,src=in,tag=x"),
        cache_to=(
            "type=local,dest=/out,mode=max",
            "type=inline",
            "type=registry,ref=r/a:1,ignore-error=true",
        ),
    )
    (found,) = requests(stack(a=build).replace(working_dir="/here"), IMAGES, ["a"], Options(), {})
    assert found.cache_from == (CachePlace("app:cache"), CachePlace(folder="/here/in", tag="x"))
    assert found.cache_to == (CachePlace(folder="/out", least=False), CachePlace("r/a:1", may_fail=True))
    assert found.cache_inline and not found.warnings

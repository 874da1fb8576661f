"""Stages: global arguments, what needs what, targets."""

from __future__ import annotations

import pytest

from composer.build.faults import DockerfileError
from composer.build.lex import lex
from composer.build.parse import parse
from composer.build.stages import Plan, plan
from composer.errors import ImageError


def read(text: str, contexts: tuple[str, ...] = (), **args: str) -> Plan:
    instructions = parse(lex(text.encode(), "Dockerfile"))
    return plan(instructions, args, {"TARGETARCH": "amd64"}, contexts=contexts)


THREE = """\
FROM one AS base
FROM base AS build
RUN --mount=type=bind,from=tools,target=/t true
FROM two AS tools
FROM build AS other
FROM scratch
COPY --from=2 /a /b
"""


def names(of: Plan, target: str = "") -> list[str]:
    return [stage.title for stage in of.needed(of.target(target))]


def test_only_needed_stages() -> None:
    found = read(THREE)
    assert names(found) == ["tools", "stage-4"]
    assert names(found, "other") == ["base", "build", "other"]
    assert names(found, "1") == ["base", "build"]
    assert names(found, "BUILD") == ["base", "build"]


def test_stages_later_in_the_file_are_no_sources() -> None:
    """tools comes after build: the name is an image there."""
    assert read(THREE).stages[1].uses == (0,)


def test_of_two_stages_of_one_name_the_later_counts() -> None:
    twice = read("FROM a AS x\nFROM b AS X\nFROM x\n")
    assert twice.stages[2].base == 1 and twice.target("x").number == 1


def test_a_context_wins_over_a_stage() -> None:
    assert read("FROM a AS x\nFROM x\n", ("x",)).stages[1].base == "x"
    assert read("FROM a AS x\nFROM x\n").stages[1].base == 0


def test_global_arguments() -> None:
    text = "ARG tag=1\nARG image=x:$tag\nFROM ${image}-$TARGETARCH\n"
    assert read(text).stages[0].base == "x:1-amd64"
    assert read(text, tag="2").stages[0].base == "x:2-amd64"
    assert read("ARG unset\nFROM a${unset:-b}\n").globals == {"unset": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM $x\n", "empty"),
        ("FROM a AS 1x\n", "name"),
        ("FROM a\nCOPY --from=0 a b\n", "no stage 0"),
        ("FROM a\nCOPY --from=$x a b\n", "variables"),
        ("FROM ${a:?no}\n", "no"),
    ],
)
def test_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        read(text)


def test_an_unknown_target_is_named_with_the_likely_one() -> None:
    with pytest.raises(ImageError) as caught:
        read(THREE).target("tool")
    assert caught.value.hint == "did you mean tools?"

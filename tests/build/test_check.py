"""What is doubtful in a Dockerfile, and the directive that says what to do about it."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from composer.build.cache import Cache
from composer.build.check import ARGUMENT, EXPERIMENTAL, NAMES, RULES, SURVEYED, Script, doubts, policy_of
from composer.build.faults import DockerfileError
from composer.build.lex import lex
from composer.build.parse import parse
from composer.build.request import Request
from composer.build.site import Site
from composer.build.survey import survey
from composer.build.walk import State
from composer.images.intake import write_image
from composer.images.reference import parse as reference
from tests.build.conftest import BASE, Yard

DOUBTFUL = [
    ("FROM a AS Base", "StageNameCasing", 1),
    ("FROM a as base", "FromAsCasing", 1),
    ("from a as base\nrun x\nRUN y", "ConsistentInstructionCasing", 3),
    ("FROM a\nRUN x\nEnv a=1", "ConsistentInstructionCasing", 3),
    ("FROM a\nCMD echo", "JSONArgsRecommended", 2),
    ("FROM a\nENTRYPOINT exec x", "JSONArgsRecommended", 2),
    ('FROM a\nCMD ["x"]\nCMD ["y"]', "MultipleInstructionsDisallowed", 2),
    ("FROM a\nMAINTAINER me", "MaintainerDeprecated", 2),
    ("FROM a\nWORKDIR b", "WorkdirRelativePath", 2),
    ("FROM a\nENV b c", "LegacyKeyValueFormat", 2),
    ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform", 1),
    ("FROM --platform=linux/amd64 a", "FromPlatformFlagConstDisallowed", 1),
    ("FROM a\nARG API_TOKEN", "SecretsUsedInArgOrEnv", 2),
    ("FROM a\nENV DB_PASSWORD=x", "SecretsUsedInArgOrEnv", 2),
    ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing", 2),
    ("FROM a\nEXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat", 2),
    ("FROM a\nEXPOSE $X 8080:80/udp", "ExposeInvalidFormat", 2),
    ("FROM a\nRUN a \\\n\n b", "NoEmptyContinuation", 2),
    ("FROM a AS b\nFROM c AS b", "DuplicateStageName", 2),
    ("FROM a AS scratch", "ReservedStageName", 1),
    ("FROM a AS context", "ReservedStageName", 1),
    ("FROM a:1$VARIANT", "UndefinedArgInFrom", 1),
    ("ARG V=1\nFROM --platform=$BUILDPLATFROM a:$V", "UndefinedArgInFrom", 2),
    ("ARG V\nFROM a:$V", "InvalidDefaultArgInFrom", 2),
    ("ARG V=1\nARG W\nFROM $W$V:", "InvalidDefaultArgInFrom", 3),
    ("# something else\nFROM a AS b", "InvalidDefinitionDescription", 2),
    ("FROM a\n# B is it\n# and C\nARG B=1", "InvalidDefinitionDescription", 4),
]
FINE = """\
ARG V
# not about the stage

FROM --platform=$BUILDPLATFORM a:${V:-1} AS base
WORKDIR /a
WORKDIR b
ENV PUBLIC_KEY=1 MONKEY=2 TOKEN_FILE=x KEY_VERSION=1
LABEL a=1
LABEL "a b"="c d"
EXPOSE 80/tcp $PORT
RUN a \\
    # a comment is no empty line
    b
CMD ["x"]
FROM --platform=linux/arm64 base AS base-arm64
FROM base
SHELL ["/bin/sh", "-c"]
WORKDIR $HOME
# D says how many
ARG C D
CMD echo \\
"""


PLATFORM = {"BUILDPLATFORM": "linux/amd64", "TARGETPLATFORM": "linux/amd64"}


def said(text: str) -> list[tuple[str, int]]:
    source = lex(text.encode(), "Dockerfile")
    found = policy_of(source, {}).told(doubts(Script(parse(source), PLATFORM)))
    return [(one.message.partition(":")[0], one.place.line if one.place else 0) for one in found]


@pytest.mark.parametrize(("text", "rule", "line"), DOUBTFUL)
def test_doubts(text: str, rule: str, line: int) -> None:
    if rule in EXPERIMENTAL:
        assert said(text) == []
        assert said(f"# check=experimental={rule}\n{text}") == [(rule, line + 1)]
    else:
        assert said(text) == [(rule, line)]
        assert said(f"# check=skip={rule}\n{text}") == []


def test_every_rule_is_tried() -> None:
    assert {rule for _, rule, _ in DOUBTFUL} == set(RULES)
    assert set(NAMES) == {*RULES, *SURVEYED, "all"}


def test_a_comment_above_an_instruction_is_about_that_one() -> None:
    text = "FROM a\n# check=skip=JSONArgsRecommended because\nCMD x\nENTRYPOINT y\n"
    assert said(text) == [("JSONArgsRecommended", 4)]


def test_the_build_argument_stands_for_the_directive() -> None:
    source = lex(b"# check=skip=all\nFROM a\nCMD x\n", "Dockerfile")
    with pytest.raises(DockerfileError, match="JSONArgsRecommended"):
        policy_of(source, {ARGUMENT: "error=true"}).told(doubts(Script(parse(source), {})))


def test_nothing_is_wrong() -> None:
    assert said(FINE) == []


def test_the_directive() -> None:
    text = "FROM a AS Base\nCMD x\n"
    assert said(f"# check=skip=all\n{text}") == []
    with pytest.raises(DockerfileError) as refused:
        said(f"# check=skip=JSONArgsRecommended;error=true\n{text}")
    assert "Dockerfile:2:1: StageNameCasing" in str(refused.value)
    for wrong in ("skip=Nothing", "error=maybe", "loud"):
        with pytest.raises(DockerfileError, match="check"):
            said(f"# check={wrong}\n{text}")


# What needs the context or a base image

SURVEY = [
    ("FROM {base}\nWORKDIR /$foo", "UndefinedVar: $foo has no value here", 2),
    ("FROM {base}\nENV PATH=$PAHT:/x", "did you mean PATH?", 2),
    ("FROM {base}\nARG a=$b", "UndefinedVar: $b", 2),
    ("FROM {base}\nCOPY <<E /x\n$c\nE", "UndefinedVar: $c", 2),
    ("FROM {base}\nRUN --mount=type=cache,target=/$d true", "UndefinedVar: $d", 2),
    ("FROM {base} AS x\nFROM scratch\nARG HOME\nFROM x\nLABEL a=$HOME", "UndefinedVar: $HOME", 5),
    ("FROM {base}\nCOPY left/out /", "CopyIgnoredFile: left/out", 2),
    ("FROM {base}\nARG D=left\nADD ./$D/ /", "CopyIgnoredFile: ./left/", 3),
    ("FROM example/foreign:1", "InvalidBaseImagePlatform: example/foreign:1 is an image for linux/s390x", 1),
]


@pytest.mark.parametrize(("text", "words", "line"), SURVEY)
def test_a_survey(yard: Yard, text: str, words: str, line: int) -> None:
    yard.write(".dockerignore", "left\n")
    foreign = yard.store.entry(BASE)
    assert foreign is not None
    config: Any = {**yard.store.config(foreign), "architecture": "s390x"}
    write_image(yard.store, config, yard.store.manifest(foreign)["layers"], reference("example/foreign:1"))
    (found,) = surveyed(yard, text.format(base=BASE))
    assert words in found and f"Dockerfile:{line}:" in found


def test_a_survey_of_what_is_well(yard: Yard) -> None:
    yard.write(".dockerignore", "left\n!left/in\n")
    text = f"""\
        ARG G=1
        FROM {BASE} AS one
        ARG A=1
        ARG B
        ARG G
        ARG TARGETOS
        ENV C=$A$B$PATH D=$G$TARGETOS
        FROM one
        ENV E=$A$C$B
        COPY left /
        RUN echo $nothing
        CMD echo $nothing
        """
    assert surveyed(yard, textwrap.dedent(text)) == []
    assert surveyed(yard, f"FROM {BASE}\nCOPY . /\n") == []
    yard.write(".dockerignore", "**\n")
    assert "CopyIgnoredFile" in surveyed(yard, f"FROM {BASE}\nCOPY . /\n")[0]


@pytest.mark.kernel
def test_doubts_come_before_anything_is_done(yard: Yard) -> None:
    with pytest.raises(DockerfileError, match=r"UndefinedVar: \$x"):
        yard.build(f"# check=error=true\nFROM {BASE}\nRUN touch /a\nENV A=$x\n")
    built = yard.build(f"FROM {BASE}\nRUN touch /a\nENV A=$x\n")
    assert len(built.done) == 1, "nothing was built before"
    (told,) = [event.text for event in built.events if event.status == "warning"]
    assert "Dockerfile:3:1: UndefinedVar: $x" in told


def surveyed(yard: Yard, text: str) -> list[str]:
    yard.write("Dockerfile", text)
    request = Request(name="t", images=("t:1",), context=str(yard.context))
    site = Site(request, Cache(yard.paths), yard.store, {})
    known: dict[int, State] = {}
    found: list[str] = []
    for stage in site.plan.stages:
        seen = survey(site, stage, known)
        known[stage.number] = seen.state
        found += map(str, seen.doubts)
    return found

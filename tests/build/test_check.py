"""What is doubtful in a Dockerfile, and the directive that says what to do about it."""

from __future__ import annotations

import pytest

from composer.build.check import RULES, checked
from composer.build.faults import DockerfileError
from composer.build.lex import lex
from composer.build.parse import parse

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
]
FINE = """\
ARG V
FROM --platform=$BUILDPLATFORM a:$V AS base
WORKDIR /a
WORKDIR b
ENV PUBLIC_KEY=1 MONKEY=2
LABEL a=1
EXPOSE 80/tcp $PORT
CMD ["x"]
FROM base
SHELL ["/bin/sh", "-c"]
WORKDIR $HOME
CMD echo
"""


def said(text: str) -> list[tuple[str, int]]:
    source = lex(text.encode(), "Dockerfile")
    found = checked(source, parse(source))
    return [(one.message.partition(":")[0], one.place.line if one.place else 0) for one in found]


@pytest.mark.parametrize(("text", "rule", "line"), DOUBTFUL)
def test_doubts(text: str, rule: str, line: int) -> None:
    assert said(text) == [(rule, line)]
    assert said(f"# check=skip={rule}\n{text}") == []


def test_every_rule_is_tried() -> None:
    assert {rule for _, rule, _ in DOUBTFUL} == set(RULES)


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

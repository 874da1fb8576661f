"""Lines and instructions, beside the official parser where it is installed."""

from __future__ import annotations

import pytest

from composer.build.faults import DockerfileError
from composer.build.lex import lex
from composer.build.parse import Instruction, parse

dockerfile = pytest.importorskip("dockerfile")

SAME = (
    "FROM x as b\nENV a=b c=\"d e\" f='g h' i=j\\ k\n",
    "FROM x\nRUN echo a && \\\n    # a comment\n\n    echo b\n",
    "FROM x\nRUN echo a \\\n  \\\n  b\n",
    "# escape=`\nFROM x\nRUN a `\n  b\nRUN c \\\n",
    "# syntax=docker/dockerfile:1\n# escape=`\n\nFROM x\nRUN a `\n b\n",
    "# comment\n# escape=`\nFROM x\nRUN a \\\n b\n",
    'FROM x\nCMD ["a", "b c"]\nENTRYPOINT [ "x" ]\nRUN [ "a" , "b" ]\nSHELL ["sh", "-c"]\n',
    "FROM x\nRUN [ a, b ]\nCMD [not json]\n",
    "FROM x\nRUN <<EOF\necho hi\n\\\n# no comment\nEOF\nRUN a\n",
    "FROM x\nCOPY <<-A <<B /x/\n\thi\n\tA\nb\nB\n",
    "FROM x\nRUN python3 <<'E O'\nprint(1)\nE O\n",
    "FROM x\nRUN cat <<< here\nRUN echo a<<b\n",
    "FROM x\nHEALTHCHECK --interval=5s CMD curl x\nHEALTHCHECK NONE\n",
    "FROM x\nONBUILD RUN echo a  b\nONBUILD COPY a b\n",
    "ARG a\nARG b=c d\nFROM x\nEXPOSE 80 90/udp\nLABEL x y z\nLABEL a.b=c\n",
    "FROM --platform=linux/amd64 x\nCOPY --from=b --chown=a:b c d /e/\nADD a b /c\n",
    "FROM x\nRUN --mount=type=cache,target=/x --network=none a -- --b\n",
    "\ufeffFROM x\r\nRUN a \\\r\n b\r\n",
    'FROM x\nVOLUME /a /b\nVOLUME ["/c d"]\nUSER a:b\nWORKDIR /a b\nSTOPSIGNAL 9\nMAINTAINER a b <c>\n',
    "from x\nrun a\n  Env a b  c \n",
    "FROM x\nRUN echo '\\\n'\nENV x=\"a\\\nb\"\n",
    'FROM x\nCOPY ["a b", "/c d/"]\n',
    "FROM x\nRUN a # not a comment\n#RUN b\n  # c\nRUN d",
)


def flat(one: Instruction) -> tuple[str, ...]:
    """Arguments in the oracle's form."""
    if one.inner is not None:
        return flat(one.inner)
    if one.word == "ARG":
        return tuple(name if value is None else f"{name}={value}" for name, value in one.pairs)
    return one.args or tuple(part for pair in one.pairs for part in pair if part is not None)


@pytest.mark.parametrize("text", SAME)
def test_as_the_official_parser_has_it(text: str) -> None:
    ours = parse(lex(text.encode(), "Dockerfile"))
    theirs = dockerfile.parse_string(text)
    assert [one.word for one in ours] == [one.cmd.upper() for one in theirs]
    assert [one.place.line for one in ours] == [one.start_line for one in theirs]
    assert [flat(one) for one in ours] == [one.value for one in theirs]
    assert [tuple((h.name, h.text) for h in one.heredocs) for one in ours] == [
        tuple((h.name, h.content) for h in one.heredocs) for one in theirs
    ]
    flags = [tuple(f"--{name}={value}" for name, value in one.flags) for one in ours]
    assert flags == [one.flags for one in theirs]


WRONG = (
    ("FROM x\nRUNN a\n", 2, "no instruction RUNN"),
    ("RUN a\n", 1, "no build stage"),
    ("", 0, "no instruction"),
    ("# only\n", 0, "no instruction"),
    ("FROM x\nCOPY a\n", 2, "at least 2"),
    ("FROM x\nCOPY --form=a b c\n", 2, "--form"),
    ("FROM x y\n", 1, "FROM"),
    ("FROM x\nRUN <<EOF\na\n", 2, "heredoc EOF"),
    ("FROM x\nSHELL a b\n", 2, "list"),
    ('FROM x\nCMD ["a", 1]\n', 2, "strings"),
    ("FROM x\nENV a\n", 2, "no value"),
    ("FROM x\nENV a=b c\n", 2, "NAME=value"),
    ("FROM x\nONBUILD FROM y\n", 2, "ONBUILD"),
    ("FROM x\nHEALTHCHECK FOO\n", 2, "HEALTHCHECK"),
    ("# escape=x\nFROM x\n", 1, "escape"),
    ("# escape=`\n# escape=`\nFROM x\n", 2, "twice"),
)


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(lex(text.encode(), "Dockerfile"))
    complaint = caught.value.complaints[0]
    assert complaint.place is not None and complaint.place.line == line
    assert words in complaint.message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(lex(b"FROM x\nRUNN a\nCOPY b\n", "Dockerfile"))
    assert [c.place and c.place.line for c in caught.value.complaints] == [2, 3]


def test_bounds() -> None:
    with pytest.raises(DockerfileError, match="larger"):
        lex(b"#" * (5 << 20), "Dockerfile")
    with pytest.raises(DockerfileError, match="UTF-8"):
        lex(b"FROM x\nRUN \xff\n", "Dockerfile")

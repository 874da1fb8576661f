"""${VARIABLES}: every form. (Compose Specification, "Interpolation".)"""

from __future__ import annotations

import pytest

from composer.errors import StackFileError
from composer.model.dotenv import parse
from composer.model.interpolate import MAX_TEXT, MAX_USES, Bounded, Variable, substitute, variables
from composer.model.kinds import Misfit
from tests.model.test_load import loaded

KNOWN = {"X": "x", "EMPTY": "", "Y": "y"}
FORMS = [
    ("$X", "x"),
    ("${X}", "x"),
    ("a${X}b$Y-c", "axby-c"),
    ("$$X $${X}", "$X ${X}"),
    ("$1 $ $.", "$1 $ $."),
    ("${NO:-d}", "d"),
    ("${EMPTY:-d}", "d"),
    ("${EMPTY-d}", ""),
    ("${NO-d}", "d"),
    ("${X:+s}${X+s}", "ss"),
    ("${EMPTY:+s}${EMPTY+s}", "s"),
    ("${NO:+s}${NO+s}", ""),
    ("${NO:-${ALSO:-$X}}", "x"),
    ("${NO:-a:b-c?d}", "a:b-c?d"),
    ("${NO:-{}}", "{}"),
    ('${NO:-{"a":"b"}} and ${Y}', '{"a":"b"} and y'),
    ("${X:?needed}", "x"),
    ("${NO}", ""),
]
WRONG = ["${}", "${1}", "${ X}", "${X!}", "${X", "${X:-", "${NO:?because $X}", "${EMPTY:?}", "${NO?}"]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_forms(text: str, expected: str) -> None:
    assert substitute(text, KNOWN.get, lambda _: None) == expected


@pytest.mark.parametrize("text", WRONG)
def test_wrong_forms_and_missing_variables(text: str) -> None:
    with pytest.raises(Misfit):
        substitute(text, KNOWN.get, lambda _: None)


def test_the_reason_for_a_required_variable_is_told() -> None:
    with pytest.raises(Misfit, match="the variable NO is required: because x"):
        substitute("${NO:?because $X}", KNOWN.get, lambda _: None)


def test_unset_variables_are_heard_of() -> None:
    heard: list[str] = []
    substitute("$NO ${NO} ${X} ${NO:-d}", KNOWN.get, heard.append)
    assert heard == ["NO", "NO"]


def test_variables_of_a_text() -> None:
    assert list(variables("$A ${B:-${C?m}} $$D ${E+f}")) == [
        Variable("A"),
        Variable("B", default="${C?m}"),
        Variable("C", required=True),
        Variable("E", alternate="f"),
    ]


def test_more_variables_than_anybody_uses() -> None:
    text = "${A:-b}" * (MAX_USES + 1)
    with pytest.raises(StackFileError, match=r"compose.yaml:1:\d+: services.a.command: .* variables"):
        loaded(f"services: {{a: {{image: x, command: '{text}'}}}}")


def test_variables_cannot_grow_without_end() -> None:
    known = Bounded({"X": "x" * 1000}.get)
    with pytest.raises(Misfit, match="16 MiB"):
        substitute("$X" * (MAX_TEXT // 1000 + 1), known, lambda _: None)


def test_an_env_file_cannot_grow_without_end() -> None:
    lines = (f"A{i + 1}={f'$A{i}' * 4}\n" for i in range(40))
    with pytest.raises(StackFileError, match="16 MiB"):
        parse("A0=xxxxxxxx\n" + "".join(lines), lambda _: None, "/w/.env")

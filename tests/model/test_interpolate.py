"""${VARIABLES}: every form. (Compose Specification, "Interpolation".)"""

from __future__ import annotations

import pytest

from composer.model.interpolate import Variable, substitute, variables
from composer.model.kinds import Misfit

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

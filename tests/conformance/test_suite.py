"""How the output of a program of the suite is understood."""

from __future__ import annotations

import pytest

from tests.conformance.suite import Outcome, understand


@pytest.mark.parametrize(
    ("output", "status", "outcome"),
    [
        ("TAP version 13\nok 1 - a\nok 2 - b\n1..2\n", 0, Outcome(passed=2)),
        ("1..1\nok 1 # SKIP no such thing\n", 0, Outcome(skipped=1)),
        ("ok 1 - a\nnot ok 2 - b is set\n1..2\n", 0, Outcome(1, 0, ("b is set",))),
        ("not ok 1 # TODO one day\n1..1\n", 0, Outcome(passed=1)),
        ("ok 1 - a\n1..2\n", 0, Outcome(passed=1, died="1 tests instead of 2")),
        ("ok 1 - a\n", 1, Outcome(passed=1, died="boom")),
        ("TAP version 13\n1..0\n", 0, Outcome()),
        ("", 0, Outcome()),
        ('TAP version 13\n  ---\n  error: "bad"\n  ...\n1..0\n', 0, Outcome(died='"bad"')),
        ('TAP version 13\n  ---\n  {\n    "error": "bad"\n  }\n  ...\n1..0\n', 0, Outcome(died='"bad"')),
        ("  ---\n  stdout: |\n    not ok 1 - inner\n  ...\nok 1 - a\n1..1\n", 0, Outcome(passed=1)),
    ],
)
def test_outcomes(output: str, status: int, outcome: Outcome) -> None:
    assert understand(output, status, "boom\n" if status else "") == outcome
    assert outcome.good == (not outcome.failed and not outcome.died)


def test_words_for_a_cell() -> None:
    outcomes = (Outcome(passed=3), Outcome(), Outcome(skipped=1), Outcome(1, 0, ("a",)), Outcome(1, died="x"))
    assert [one.words for one in outcomes] == ["pass", "pass", "skip", "1 of 2 fail", "ends early"]
    assert Outcome(died="x").words == "no result"

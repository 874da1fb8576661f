"""Numbers and states as text on the screen of `composer ui`: by tables."""

from __future__ import annotations

from typing import Any, cast

import pytest

from composer.cli.board import cells
from composer.cli.board.reading import History, Numbers, Reading
from composer.record import ContainerRow

CURVES: list[tuple[list[float], int, float, str]] = [
    # values, columns, highest at least, text
    ([], 3, 1, "   "),
    ([0, 50, 100], 5, 100, "  ▁▅█"),
    ([1, 2, 3, 4], 2, 4, "▇█"),
    ([1, 1], 2, 100, "▁▁"),
    ([200, 100], 2, 100, "█▅"),
    ([5], 0, 10, ""),
    ([0, 0], 2, 0, "▁▁"),
]


@pytest.mark.parametrize(("values", "size", "most", "text"), CURVES)
def test_curves(values: list[float], size: int, most: float, text: str) -> None:
    assert str(cells.curve(values, size, most, "red")) == text


def row(state: str, health: str = "", code: int = 0) -> ContainerRow:
    return cast(ContainerRow, {"name": "a", "state": state, "health": health, "exit_code": code})


MOODS = [
    (row("running"), "●", cells.GOOD),
    (row("running", "healthy"), "●", cells.GOOD),
    (row("running", "starting"), "●", cells.BUSY),
    (row("running", "unhealthy"), "●", cells.BAD),
    (row("exited"), "■", cells.QUIET),
    (row("exited", code=143), "■", cells.QUIET),
    (row("exited", code=1), "■", cells.BAD),
    (row("paused"), "‖", cells.BUSY),
    (row("restarting"), "↻", cells.BUSY),
    (row("created"), "○", cells.QUIET),
]


@pytest.mark.parametrize(("container", "sign", "colour"), MOODS)
def test_marks(container: ContainerRow, sign: str, colour: str) -> None:
    shown = cells.mark(container)
    assert (str(shown), shown.style) == (sign, colour)


FOUND = [
    ("plain text", "", "plain text", 0),
    ("Some Text here, text there", "text", "Some Text here, text there", 2),
    ("\x1b[31mred\x1b[0m alert", "red al", "red alert", 1),
    ("nothing", "some", None, 0),
    ("aaaa", "aa", "aaaa", 2),
    ("[b]no markup[/b]", "markup", "[b]no markup[/b]", 1),
]


@pytest.mark.parametrize(("line", "wanted", "text", "marks"), FOUND)
def test_searching_a_line(line: str, wanted: str, text: str | None, marks: int) -> None:
    found = cells.found(line, wanted)
    assert (None if found is None else found.plain) == text
    assert sum("on #e0af68" in str(span.style) for span in (found.spans if found else ())) == marks


EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"action": "start", "attributes": {}}, "12:00:00  start            a-1"),
    ({"action": "die", "attributes": {"exitCode": "3"}}, "12:00:00  die              a-1  exit code 3"),
    ({"action": "die", "attributes": {"exitCode": "0"}}, "12:00:00  die              a-1"),
]


@pytest.mark.parametrize(("event", "text"), EVENTS)
def test_events(event: dict[str, Any], text: str) -> None:
    assert str(cells.happened({**event, "container": "a-1"}, "12:00:00")) == text


def test_history_is_bounded_and_forgets_who_is_gone() -> None:
    history = History()
    for number in range(1000):
        history.add(Reading([row("running")], [], {"a": Numbers(number, number, 0, 0, 0, 1)}, []))
    assert len(history.cpu["a"]) == 120
    assert history.memory["a"][-1] == 999
    history.add(Reading([], [], {}, []))
    assert history.cpu == {}

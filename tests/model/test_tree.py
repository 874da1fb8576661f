"""YAML as Compose reads it: scalars, tags, anchors, places."""

from __future__ import annotations

from typing import Any

import pytest

from composer.errors import Place, StackFileError
from composer.model.tree import Source, scalar

SCALARS: list[tuple[str, Any]] = [
    ("yes", "yes"),
    ("on", "on"),
    ("22:22", "22:22"),
    ("true", True),
    ("False", False),
    ("~", None),
    ("", None),
    ("10", 10),
    ("010", 8),
    ("08", 8.0),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b101", 5),
    ("1_000", 1000),
    ("+12", 12),
    ("1.50", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1e400", "1e400"),
    ("1.2.3", "1.2.3"),
    ("-", "-"),
    ("2001-01-01", "2001-01-01 00:00:00 +0000 UTC"),
    ("2001-1-1T1:2:3+02:00", "2001-01-01 01:02:03 +0200 +0200"),
    ("2001-13-01", "2001-13-01"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert isinstance(found, str) == isinstance(value, str)


TEXT = b"""\
a: &a {x: 1, y: [2, 3], z: !reset }
b: *a
c: {<<: *a, x: 4}
d: {<<: [*a, {k: 1}], e: !override [1]}
f: [p=1, q]
"""


def test_aliases_merge_keys_and_tags() -> None:
    document = Source("f", TEXT).documents[0]
    assert document.data == {
        "a": {"x": 1, "y": [2, 3]},
        "b": {"x": 1, "y": [2, 3]},
        "c": {"x": 4, "y": [2, 3]},
        "d": {"e": [1], "x": 1, "y": [2, 3], "k": 1},
        "f": ["p=1", "q"],
    }
    assert {("a", "z"), ("b", "z"), ("c", "z"), ("d", "e")} <= set(document.resets)


PLACES: list[tuple[tuple[str | int, ...], Place]] = [
    (("a",), Place("f", 1, 1)),
    (("a", "y", 1), Place("f", 1, 21)),
    (("b", "y", 1), Place("f", 1, 21)),
    (("c", "y"), Place("f", 1, 14)),
    (("c", "x"), Place("f", 3, 13)),
    (("d", "k"), Place("f", 4, 15)),
    (("f", "p"), Place("f", 5, 5)),
    (("f", "no", "such"), Place("f", 5, 1)),
    (("none",), Place("f")),
]


@pytest.mark.parametrize(("path", "place"), PLACES)
def test_places(path: tuple[str | int, ...], place: Place) -> None:
    assert Source("f", TEXT).place(path) == place


BROKEN = [
    ("a:\n\tb: 1", (2, 1), "cannot start any token", "indent with spaces, not with tabs"),
    ("a:\n  b: 1\n\tc: 1", (3, 1), "tab character", "indent with spaces, not with tabs"),
    ("a: @b", (1, 4), "cannot start any token", "needs quotes"),
    ('a: 1\nb: "x\nc: 1\n', (2, 4), "the quote that begins here never ends", ""),
    ("a:\n  - b: 1\n    -c\n", (3, 5), "this is no `key: value`", "after each : and -"),
    ("a: [b, c\nd: 1\n", (2, 2), "',' or ']'", "the bracket of line 1 is still open here"),
    ("a: {b: c, d: e [f}", (1, 16), "',' or '}'", "a text with , : or a bracket"),
    ("a: b: c", (1, 5), "mapping values", "quote a value"),
    ("a:\n  b: 1\n  - c", (3, 3), "expected", "check the indentation"),
]


@pytest.mark.parametrize(("text", "place", "message", "hint"), BROKEN)
def test_what_is_no_yaml_is_explained(text: str, place: tuple[int, int], message: str, hint: str) -> None:
    with pytest.raises(StackFileError) as caught:
        Source("f", text.encode()).documents  # noqa: B018
    (told,) = caught.value.complaints
    assert told.place and (told.place.line, told.place.column) == place
    assert message in told.message and hint in (told.hint or "")

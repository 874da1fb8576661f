"""docs/compose-support.md says the truth about every key, and each key has a stack file that shows it."""

from __future__ import annotations

import ast
import re

import pytest

from composer.errors import StackFileError
from composer.model.load import Request, load
from composer.model.own_keys import KEYS, OwnKey
from tests.model import support
from tests.model.differential import Disk
from tests.model.support import Row

LINK = re.compile(r"\[[^]]*\]\(\.\./([^)]+)\)")


def told() -> dict[str, str]:
    """The page's rows by key."""
    lines = support.FILE.read_text(encoding="utf-8").splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def test_the_page_is_what_would_be_written() -> None:
    """All but which stack file shows a key: another may do as well."""
    ours, made = (LINK.sub("", text) for text in (support.FILE.read_text(encoding="utf-8"), support.page()))
    assert ours == made, "write it again: python -m tests.model.support"


@pytest.mark.parametrize("row", support.rows(), ids=lambda row: ".".join(row.key))
def test_every_key_is_shown_by_a_stack_file(row: Row) -> None:
    assert row.key in support.shown()
    if not support.in_step(row.key):
        link = LINK.search(told()[".".join(row.key)])
        assert link
        assert link[1] in support.shown()[row.key]
    assert (row.support == "acts") == (not row.why), "whatever does not act has a reason"


@pytest.mark.parametrize("row", [row for row in support.rows() if row.support == "refused"])
def test_what_is_refused_is_refused_by_name(row: Row) -> None:
    for name in support.shown()[row.key]:
        with pytest.raises(StackFileError) as caught:
            load(Request((str(support.ROOT / name),), str(support.ROOT)), Disk())
        assert [complaint.path for complaint in caught.value.complaints] == [row.key]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ".".join(key.path))
def test_every_key_of_ours_is_shown_by_a_stack_file(key: OwnKey) -> None:
    link = LINK.search(told()[".".join(key.path)])
    assert link
    assert link[1] in support.shown()[key.path]


def test_every_key_of_ours_is_in_the_table() -> None:
    """Whatever the model reads by a name that starts with x- is told of."""
    texts = {
        node.value
        for file in (support.ROOT / "composer" / "model").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {text for text in texts if re.fullmatch("x-[a-z-]+", text)} == {key.path[-1] for key in KEYS}

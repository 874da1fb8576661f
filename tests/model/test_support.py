"""docs/compose-support.md says the truth about every key, and each key has a stack file that shows it."""

from __future__ import annotations

import re

import pytest

from composer.errors import StackFileError
from composer.model.load import Request, load
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

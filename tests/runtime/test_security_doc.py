"""docs/security.md names the test that holds each decision; a renamed or removed test must not stay there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()


def test_every_named_test_exists() -> None:
    named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", PAGE)
    assert named
    missing = [
        f"{file}::{function}"
        for file, function in named
        if not re.search(rf"^(async )?def {function}\(", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_decision_is_held_by_a_test() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and "| held by |" not in row]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []

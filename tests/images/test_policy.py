"""pull_policy."""

from __future__ import annotations

import pytest

from composer.errors import ImageError
from composer.images.policy import is_due, max_age

DAY = 86_400


@pytest.mark.parametrize(
    ("policy", "pulled", "due"),
    [
        ("always", 0, True),
        ("always", None, True),
        ("", None, True),
        ("missing", None, True),
        ("missing", 0, False),
        ("if_not_present", 0, False),
        ("never", None, False),
        ("build", None, False),
        ("daily", None, True),
        ("daily", 0, True),
        ("daily", 1, False),
        ("weekly", 0, False),
        ("every_12h", DAY // 2, True),
        ("every_1d1s", 0, False),
    ],
)
def test_due(policy: str, pulled: float | None, due: bool) -> None:
    assert is_due(policy, pulled, DAY) is due


@pytest.mark.parametrize("policy", ["sometimes", "every_", "every_h", "every_1y", "every_1h "])
def test_no_such_policy(policy: str) -> None:
    with pytest.raises(ImageError, match="no pull policy"):
        is_due(policy, 0, 0)


def test_ages() -> None:
    assert max_age("every_2w3d4h5m6s") == 2 * 7 * DAY + 3 * DAY + 4 * 3600 + 5 * 60 + 6

"""Fixtures of the images room."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A store of its own."""
    return Paths(tmp_path / "run", tmp_path / "state")

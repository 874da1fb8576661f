"""Fixtures for tests of the Python interface and of the pytest plugin."""

from __future__ import annotations

import pytest

from tests.host import Host


@pytest.fixture
def here(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """As `host`, for what runs in this very process."""
    for name in ("COMPOSER_RUN_DIR", "COMPOSER_STATE_DIR"):
        monkeypatch.setenv(name, host.environment[name])
    monkeypatch.chdir(host.root)
    return host

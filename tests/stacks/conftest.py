"""Fixtures for stacks on a machine of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host
from tests.network.conftest import Host as Machine
from tests.network.conftest import own_host


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A network namespace that plays the machine. Ask for it before `site`, which is in it."""
    with own_host(tmp_path) as this:
        yield this


@pytest.fixture
def site(machine: Machine) -> Iterator[Host]:
    """As `host`, on `machine`: there it must leave nothing, not even a link."""
    before = machine.run("ip", "-o", "link", "show", "type", "bridge")
    host = Host()
    try:
        yield host
    finally:
        found = host.end()
        found += machine.run("ip", "-o", "link", "show", "type", "bridge").replace(before, "").splitlines()
        found += machine.run("nft", "list", "tables").splitlines()
    assert not found, "left behind:\n" + "\n".join(found)

"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.host import Host

# No test is about how long something takes. And a check of a change must not fail by chance: CI tries the
# same examples each time, people try new ones.
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")

# A shell runs commands in the background with Ctrl-C ignored, and whatever these start would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A kernel test without root fails with a sentence; it is never skipped in silence."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.usefixtures("needs_root"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a missing prerequisite is a failure: only what the kernel lacks may be skipped."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    reason = str(report.longrepr)
    if report.skipped and os.environ.get("CI") and "is not installed" in reason and "llvm" not in reason:
        report.outcome = "failed"


@pytest.fixture
def needs_root() -> None:
    pytest.fail("this test needs root: run it with sudo, or leave it out with -m 'not kernel'")


@pytest.fixture
def host() -> Iterator[Host]:
    """A corner of the machine for one test; the test fails when it leaves anything behind."""
    host = Host()
    try:
        yield host
    finally:
        found = host.end()
    assert not found, "left behind:\n" + "\n".join(found)

"""Plugin of pytest in the virtual machine: each test's result is a line of JSON on the second serial line.

`{"tests"}`, their number, comes first; then `{"test", "begins"}` and `{"test", "outcome", "text"}` of each.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

_line = os.open("/dev/ttyS1", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)


def _tell(**fields: object) -> None:
    data = json.dumps(fields).encode() + b"\n"
    while data:
        data = data[os.write(_line, data) :]


def pytest_collection_finish(session: pytest.Session) -> None:
    _tell(tests=len(session.items))


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _tell(test=report.nodeid, outcome="failed", text=str(report.longrepr)[-6000:])


def pytest_runtest_logstart(nodeid: str) -> None:
    _tell(test=nodeid, begins=True)


def pytest_runtest_logreport(report: Any) -> None:
    """Only what says more than "passed" counts of setup and teardown."""
    if report.when == "call" or not report.passed:
        text = report.longrepr
        reason = text[2].removeprefix("Skipped: ") if isinstance(text, tuple) else str(text or "")
        if report.outcome == "rerun":
            reason = reason.strip().rpartition("\n")[2]
        _tell(test=report.nodeid, outcome=report.outcome, text=reason[-6000:])

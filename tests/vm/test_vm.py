"""What is said of the machines' results, and their first files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.vm import kernels
from tests.vm.__main__ import selection
from tests.vm.machine import archive
from tests.vm.summary import Summary


def hear(*said: dict[str, object]) -> Summary:
    summary = Summary("6.1", Path("/log"))
    for line in said:
        summary.hear(json.dumps(line))
    return summary


def result(test: str, outcome: str, text: str = "") -> dict[str, object]:
    return {"test": test, "outcome": outcome, "text": text}


def test_everything_that_did_not_pass_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    summary = hear(
        {"tests": 4},
        {"test": "a.py::one", "begins": True},
        result("a.py::one", "passed"),
        result("a.py::one", "failed", "left behind"),
        result("a.py::two", "skipped", "no such thing"),
        result("b.py::three", "rerun", "too slow"),
        result("b.py::three", "passed"),
        {"exit": 1},
    )
    head, *rest = str(summary).split("\n  ")
    assert head.startswith("Linux 6.1, cgroup v2: 1 passed, 1 failed, 1 skipped; 0 min")
    assert rest == [
        "skipped 1 of a.py: no such thing",
        "passed when tried again: b.py::three",
        "FAILED a.py::one",
    ]
    assert summary.status == 1
    assert "6.1  | left behind" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ([], 125, "the machine ended before its tests did; last begun: none"),
        ([{"test": "a.py::one", "begins": True}], 125, "last begun: a.py::one"),
        ([{"exit": 4}], 4, "the tests ended with the exit status 4"),
    ],
)
def test_no_end_is_no_success(said: list[dict[str, object]], status: int, told: str) -> None:
    summary = hear(*said)
    assert summary.status == status
    assert told in str(summary)


def test_the_archive_is_one(tmp_path: Path) -> None:
    files = {"init": b"#!/bin/sh\n", "modules/a.ko": b"\0" * 5, "modules/order": b""}
    unpack = [str(kernels.busybox()), "cpio", "-i", "-d", "--quiet"]
    subprocess.run(unpack, input=archive(files), cwd=tmp_path, check=True, capture_output=True)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_what_is_selected_is_there() -> None:
    tree = Path(__file__).parents[2]
    for name in selection():
        file, _, test = name.partition("::")
        assert (tree / file).exists(), name
        assert f"def {test.partition('[')[0]}" in (tree / file).read_text() if test else True, name

"""Seccomp profiles of one's own: Docker's conditions are kept to, never dropped."""

from __future__ import annotations

import re
from typing import Any

import pytest

from composer.bundle.filters import chosen

CAPABILITIES = ("CAP_CHOWN", "CAP_KILL")


def names(*rules: dict[str, Any], machine: str = "x86_64") -> list[str]:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"action": "SCMP_ACT_ALLOW", **r} for r in rules],
    }
    found = chosen(document, CAPABILITIES, (5, 10), machine)
    return [name for rule in found["syscalls"] for name in rule["names"]]


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"includes": {}, "excludes": None}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "5.11"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {"caps": ["CAP_KILL"], "arches": ["arm64"]}}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], holds: bool) -> None:
    assert names({"names": ["mount"], **conditions}) == (["mount"] if holds else [])


def test_a_rule_of_one_name_as_it_was_written_once() -> None:
    assert names({"name": "mount", "args": None}) == ["mount"]


def test_architectures_by_machine() -> None:
    rows = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    document = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": rows}
    assert chosen(document, (), (6, 1), "aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert chosen(document, (), (6, 1), "x86_64")["architectures"][1:] == ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "the profile: expected an object"),
        ({}, "defaultAction: is missing"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "syscalls: expected a list"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}, "action: is missing"),
        ({"defaultAction": "x", "architectures": ["a"], "archMap": [{}]}, "both architectures and archMap"),
        (
            {"defaultAction": "x", "syscalls": [{"includes": {"caps": "CAP_KILL"}}]},
            "includes.caps: expected a list",
        ),
        ({"defaultAction": "x", "syscalls": [{"includes": {"minKernel": "new"}}]}, "is no version"),
    ],
)
def test_mistakes_name_the_field(document: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        chosen(document, (), (6, 1), "x86_64")

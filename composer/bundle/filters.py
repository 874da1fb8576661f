"""A seccomp profile of one's own, as Docker writes them or as OCI does, to what a bundle has. Pure.

Docker's form has rules for many machines, kernels and sets of capabilities; what does not fit here is left
out. To leave out the conditions instead would allow to everybody what is meant for a few.
https://docs.docker.com/engine/security/seccomp/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from composer import oci
from composer.runtime.errors import StepError
from composer.runtime.shape import shaped

# Machine → the name that Docker has for it, and its own architecture.
_MACHINES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def chosen(
    document: Any, capabilities: Collection[str], kernel: tuple[int, int], machine: str
) -> oci.Seccomp:
    """What holds for these capabilities, on this kernel. Raises ValueError naming the field."""
    try:
        given: dict[str, Any] = shaped(document, dict[str, Any], "the profile")
        if given.get("architectures") and given.get("archMap"):
            raise ValueError("it has both architectures and archMap")
        name, architecture = _MACHINES.get(machine, (machine, ""))
        found = {key: value for key, value in given.items() if key not in ("archMap", "syscalls")}
        for row in _rows(given, "archMap"):
            if row.get("architecture") == architecture:
                found["architectures"] = [architecture, *(row.get("subArchitectures") or ())]
        found["syscalls"] = [
            _plain(rule) for rule in _rows(given, "syscalls") if _holds(rule, name, capabilities, kernel)
        ]
        return cast(oci.Seccomp, shaped(found, oci.Seccomp))
    except StepError as error:
        raise ValueError(f"{error.path}: {error.text}") from None


def _rows(given: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = given.get(key)
    return cast(list[dict[str, Any]], shaped([] if rows is None else rows, list[dict[str, Any]], key))


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in rule.items() if key not in ("includes", "excludes", "name")}
    return plain if "name" not in rule else {"names": [rule["name"]], **plain}


def _holds(
    rule: Mapping[str, Any], machine: str, capabilities: Collection[str], kernel: tuple[int, int]
) -> bool:
    """All that `includes` names must be so, and nothing that `excludes` names."""
    wanted, unwanted = (_conditions(rule, key) for key in ("includes", "excludes"))
    if wanted.get("arches") and machine not in wanted["arches"]:
        return False
    if not set(wanted.get("caps", ())) <= set(capabilities):
        return False
    if "minKernel" in wanted and kernel < _version(wanted["minKernel"]):
        return False
    if machine in unwanted.get("arches", ()) or not set(capabilities).isdisjoint(unwanted.get("caps", ())):
        return False
    return "minKernel" not in unwanted or kernel < _version(unwanted["minKernel"])


def _conditions(rule: Mapping[str, Any], key: str) -> oci.SeccompConditions:
    return cast(oci.SeccompConditions, shaped(rule.get(key) or {}, oci.SeccompConditions, f"syscalls.{key}"))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not major.isdecimal() or not minor.isdecimal():
        raise ValueError(f"minKernel: {text!r} is no version like 4.8")
    return int(major), int(minor)

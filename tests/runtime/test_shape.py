"""Documents that have not the form of the specification: refused by the field's name, never misread."""

from __future__ import annotations

from typing import Any

import pytest

from composer import oci
from composer.runtime.describe import default_spec
from composer.runtime.errors import StepError
from composer.runtime.shape import shaped

WRONG: list[tuple[str, Any, str]] = [
    ("process.args", "sh", "expected a list, not a text"),
    ("process.args", ["sh", 1], "[1]: expected a text, not a whole number"),
    ("process.env", {"A": "b"}, "expected a list, not an object"),
    ("process.env", ["A"], "[0]: expected NAME=value, not 'A'"),
    ("process.env", ["A=b\0"], "expected NAME=value"),
    ("process.cwd", "tmp", "expected an absolute path, not 'tmp'"),
    ("process.terminal", "false", "expected true or false, not a text"),
    ("process.user", "root", "expected an object, not a text"),
    ("process.user.uid", -1, "expected 0 to 4294967294, not -1"),
    ("process.user.gid", 2**32 - 1, "expected 0 to 4294967294"),
    ("process.user.additionalGids", [True], "[0]: expected a whole number, not true or false"),
    ("process.user.umask", 0o1000, "expected 0 to 511"),
    ("process.oomScoreAdj", 1001, "expected -1000 to 1000"),
    ("process.capabilities", ["CAP_KILL"], "expected an object, not a list"),
    ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0}], "[0].hard: is missing"),
    ("process.scheduler", {}, ".policy: is missing"),
    ("process.ioPriority", {"priority": 1}, ".class: is missing"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "expected 0 to 7"),
    ("root", None, "is missing"),
    ("root", {"readonly": True}, ".path: is missing"),
    ("root.readonly", "no", "expected true or false"),
    ("hostname", 5, "expected a text"),
    ("mounts", {}, "expected a list, not an object"),
    ("mounts", [{"type": "tmpfs"}], "[0].destination: is missing"),
    ("mounts", [{"destination": "mnt"}], "expected an absolute path"),
    ("hooks", [], "expected an object"),
    ("hooks", {"poststop": [{"path": "bin/true"}]}, ".poststop[0].path: expected an absolute path"),
    ("hooks", {"poststop": [{"path": "/bin/true", "timeout": 0}]}, "expected 1 to"),
    ("annotations", {"a": 1}, "[a]: expected a text"),
    ("linux", [], "expected an object"),
    ("linux.namespaces", [{"type": "net"}], "'net' is none of pid, network"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0}], "[0].size: is missing"),
    ("linux.maskedPaths", "/proc/kcore", "expected a list, not a text"),
    ("linux.readonlyPaths", ["proc/sys"], "[0]: expected an absolute path"),
    ("linux.devices", [{"type": "c", "path": "x"}], "[0].path: expected an absolute path"),
    ("linux.sysctl", {"net.ipv4.ip_forward": 1}, "[net.ipv4.ip_forward]: expected a text"),
    ("linux.resources", {"devices": [{"access": "rwm"}]}, ".devices[0].allow: is missing"),
    ("linux.resources", {"memory": 5}, ".memory: expected an object"),
    ("linux.seccomp", {"syscalls": []}, ".defaultAction: is missing"),
    ("linux.personality", {"domain": "LINUX64"}, "'LINUX64' is none of LINUX, LINUX32"),
    ("linux.timeOffsets", {"monotonic": {"nanosecs": 10**9}}, "[monotonic].nanosecs: expected 0 to"),
    ("ociVersion", 1.2, "expected a text, not 1.2"),
]


def changed(field: str, value: Any) -> dict[str, Any]:
    spec = default_spec()
    *above, name = field.split(".")
    place = spec
    for part in above:
        place = place[part]
    place[name] = value
    return spec


@pytest.mark.parametrize(("field", "value", "text"), WRONG)
def test_another_form_is_named(field: str, value: Any, text: str) -> None:
    with pytest.raises(StepError) as caught:
        shaped(changed(field, value), oci.Spec)
    assert caught.value.path.startswith(field)
    assert text in f"{caught.value.path}: {caught.value.text}"


def test_what_is_right_stays_as_it_is() -> None:
    assert shaped(default_spec(), oci.Spec) == default_spec()


def test_null_is_absent() -> None:
    found = shaped(changed("process.rlimits", None), oci.Spec)
    assert "rlimits" not in found["process"]


def test_unknown_fields_are_ignored_as_the_specification_demands() -> None:
    assert shaped(changed("linux.ofTomorrow", [1]), oci.Spec)["linux"]["ofTomorrow"] == [1]

"""Names, default, resolving, and the five sets as the kernel shows them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from composer.runtime import capabilities, linux, users
from composer.runtime.capabilities import DEFAULT, NAMES, bits, resolve


def test_numbers() -> None:
    assert {
        name: NAMES.index(f"CAP_{name}") for name in ("CHOWN", "KILL", "SYS_ADMIN", "SETFCAP", "BPF")
    } == {
        "CHOWN": 0,
        "KILL": 5,
        "SYS_ADMIN": 21,
        "SETFCAP": 31,
        "BPF": 39,
    }
    assert len(NAMES) == len(set(NAMES)) == 41


def test_kernel_has_no_capability_without_a_name() -> None:
    assert int(Path("/proc/sys/kernel/cap_last_cap").read_text()) < len(NAMES)


def test_default_is_dockers() -> None:
    assert bits(DEFAULT) == 0x00000000A80425FB


@pytest.mark.parametrize(
    ("add", "drop", "privileged", "expected"),
    [
        ([], [], False, DEFAULT),
        (["NET_ADMIN"], [], False, [*DEFAULT, "CAP_NET_ADMIN"]),
        (["cap_net_admin"], ["CAP_CHOWN"], False, [*DEFAULT[1:], "CAP_NET_ADMIN"]),
        ([], ["ALL"], False, []),
        (["CAP_ALL"], ["CAP_CHOWN"], False, NAMES[1:]),
        (["chown"], ["all"], False, ["CAP_CHOWN"]),
        (["ALL"], [], False, NAMES),
        (["ALL"], ["SYS_ADMIN"], False, [name for name in NAMES if name != "CAP_SYS_ADMIN"]),
        (["ALL"], ["ALL"], False, NAMES),
        (["KILL"], ["KILL"], False, DEFAULT),
        ([], ["ALL"], True, NAMES),
    ],
)
def test_resolve(add: list[str], drop: list[str], privileged: bool, expected: Sequence[str]) -> None:
    resolved = resolve(add, drop, privileged)
    assert set(resolved) == set(expected)
    assert resolved == sorted(resolved, key=NAMES.index)


@pytest.mark.parametrize(("add", "drop"), [(["NET"], []), ([], ["CAP_"]), (["CAP_CAP_KILL"], [])])
def test_resolve_refuses_unknown_names(add: list[str], drop: list[str]) -> None:
    with pytest.raises(ValueError, match="there is no capability"):
        resolve(add, drop, False)


def status(wanted: Mapping[str, Sequence[str]], *, uid: int = 0, locked: bool = False) -> dict[str, int]:
    """The five sets of a process after `apply`, as /proc/self/status has them."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            users.switch({"uid": uid, "gid": uid})
            capabilities.apply(wanted)
            os.write(writer, Path("/proc/self/status").read_bytes())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        rows = dict(line.split(":", 1) for line in file.read().splitlines())
    os.waitpid(pid, 0)
    return {name: int(rows[f"Cap{name}"], 16) for name in ("Bnd", "Eff", "Prm", "Inh", "Amb")}


SETS = {
    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETPCAP"],
    "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
    "effective": ["CAP_CHOWN", "CAP_KILL"],
    "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
    "ambient": ["CAP_KILL"],
}


@pytest.mark.kernel
@pytest.mark.parametrize("uid", [0, 65534])
def test_five_sets(uid: int) -> None:
    assert status(SETS, uid=uid) == {
        "Bnd": bits(SETS["bounding"]),
        "Eff": bits(SETS["effective"]),
        "Prm": bits(SETS["permitted"]),
        "Inh": bits(SETS["inheritable"]),
        "Amb": bits(SETS["ambient"]),
    }


@pytest.mark.kernel
@pytest.mark.parametrize("uid", [0, 65534])
def test_nothing_at_all(uid: int) -> None:
    assert set(status({}, uid=uid).values()) == {0}


@pytest.mark.kernel
def test_what_cannot_be_given_is_left_out_and_named() -> None:
    _, own, _ = linux.capget()
    wanted = {
        name: [*NAMES, "CAP_FUTURE"]
        for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }
    found = status(wanted)
    assert found["Eff"] == found["Prm"] == own
    lacking = {name for name in NAMES if not bits([name]) & own}
    assert set(capabilities.missing(wanted)) == lacking | {"CAP_FUTURE"}


@pytest.mark.kernel
def test_ambient_needs_the_other_two() -> None:
    assert status({**SETS, "inheritable": []})["Amb"] == 0

from __future__ import annotations

import os
from typing import Any

import pytest

from composer.bundle import userns
from composer.bundle.inputs import Account, Binding
from composer.errors import UsageError
from composer.model.stack import Mount, Service, Stack


def stack(**services: dict[str, Any]) -> Stack:
    return Stack("s", {name: Service(name=name, **fields) for name, fields in services.items()})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"userns_mode": "private"}, ""),
        ({"cap_add": ("NET_ADMIN", "SYS_PTRACE"), "sysctls": {"net.core.somaxconn": "1"}}, ""),
        ({"cap_drop": ("ALL",), "read_only": True, "init": True, "user": "33"}, ""),
        ({"network_mode": "none", "ipc": "private", "cgroup": "host", "uts": "host"}, ""),
        ({"userns_mode": "host"}, "userns_mode is host"),
        ({"privileged": True}, "privileged"),
        ({"runtime": "runc"}, "another runtime"),
        ({"network_mode": "host"}, "the host's network"),
        ({"pid": "host"}, "the host's processes"),
        ({"ipc": "host"}, "memory with the host"),
        ({"cap_add": ("SYS_ADMIN",)}, "over the machine"),
        ({"cap_add": ("ALL",)}, "over the machine"),
        ({"sysctls": {"kernel.shmmax": "1"}}, "sysctls"),
    ],
)
def test_what_speaks_against_it(fields: dict[str, Any], words: str) -> None:
    found = stack(web=fields)
    said = userns.objection(found, found.services["web"])
    assert words in said if words else not said


def test_an_unknown_mode_is_refused() -> None:
    found = stack(web={"userns_mode": "keep-id"})
    with pytest.raises(UsageError, match="keep-id"):
        userns.objection(found, found.services["web"])


def test_who_shares_namespaces_shares_the_answer() -> None:
    found = stack(
        web={"network_mode": "service:vpn"},
        vpn={"privileged": True},
        spy={"pid": "service:web"},
        other={},
    )
    for name in ("web", "spy"):
        assert userns.objection(found, found.services[name]) == (
            "it shares namespaces with vpn: it is privileged"
        )
    assert not userns.objection(found, found.services["other"])


def test_ids_that_do_not_fit() -> None:
    assert "65535" in userns.misfit(Account(uid=70_000), ())
    assert "65535" in userns.misfit(Account(groups=(1 << 20,)), ())
    assert not userns.misfit(Account(uid=65_535, gid=5), ())
    bad = Binding(Mount("bind", "/a", "/b"), "/b", misfit="is odd")
    assert userns.misfit(Account(), (bad,)) == "/b, mounted at /a, is odd"


def status(mode: int = 0o040755, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("path", "found", "words"),
    [
        ("/home/me/project", status(uid=1000, gid=1000), ""),
        ("/runs", status(), ""),
        ("/", status(), "services"),
        ("/run/user/1000", status(), "services"),
        ("/srv/app.sock", status(0o140755), "socket"),
        ("/home/me", status(uid=1_234_567), "above 65535"),
    ],
)
def test_what_sources_say_against_it(path: str, found: os.stat_result, words: str) -> None:
    said = userns.of_source(path, found)
    assert words in said if words else not said

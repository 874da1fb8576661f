"""The parts of commands that touch nothing: overrides, chains of causes, completion, records, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from composer.api import copy
from composer.cli import checks, complete, images, overrides, stats, top, why
from composer.cli.joined import runs
from composer.cli.terminal import Detached, Keys, detach_keys
from composer.errors import UsageError
from composer.model.digest import from_json
from composer.model.stack import Service
from composer.record import ContainerRow

# run: what it changes of a service

FLAGS: dict[str, Any] = {
    **dict.fromkeys(("env", "label", "cap_add", "cap_drop", "publish", "volume"), ()),
    **dict.fromkeys(("service_ports", "use_aliases"), False),
    **dict.fromkeys(("user", "workdir"), ""),
    "entrypoint": None,
    "env_from_file": {},
}
SERVICE: dict[str, Any] = {
    "name": "web",
    "image": "host",
    "environment": {"A": "1", "B": "2"},
    "container_name": "web",
    "restart": {"condition": "always"},
    "ports": [{"target": 80, "published": "8080"}],
    "networks": {"default": {"aliases": ["www"], "ipv4_address": "10.0.0.5", "priority": 3}},
    "volumes": [{"type": "volume", "target": "/data", "source": "data"}],
}


def changed(command: tuple[str, ...] = (), **flags: Any) -> Mapping[str, Any]:
    fields = overrides.fields(SERVICE, {**FLAGS, **flags}, command, {"HOME": "/root"})
    from_json(Service, {"name": "web", **fields})  # they are fields of the model
    return fields


def test_a_one_off_is_not_in_the_way_of_its_service() -> None:
    fields = changed()
    assert fields == {
        "container_name": "",
        "restart": {},
        "ports": [],
        "networks": {"default": {"priority": 3}},
    }


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ({"env": ["B=3", "HOME", "NOT_SET"]}, "environment", {"A": "1", "B": "3", "HOME": "/root"}),
        ({"env": ["B=3"], "env_from_file": {"B": "4", "C": "5"}}, "environment",
         {"A": "1", "B": "3", "C": "5"}),
        ({"service_ports": True}, "ports", [{"target": 80, "published": "8080"}]),
        ({"publish": ["9000:90"]}, "ports", [{"target": 90, "published": "9000"}]),
        ({"use_aliases": True}, "networks", {"default": {"priority": 3, "aliases": ["www", "web"]}}),
        ({"cap_add": ["NET_ADMIN"]}, "cap_add", ["NET_ADMIN"]),
        ({"user": "1000"}, "user", "1000"),
        ({"workdir": "/srv"}, "working_dir", "/srv"),
        ({"label": ["a=b", "c"]}, "labels", {"a": "b", "c": ""}),
        ({"volume": ["/x:/data:ro"]}, "volumes",
         [{"type": "bind", "target": "/data", "source": "/x", "read_only": True}]),
    ],
)  # fmt: skip
def test_flags_of_run(flags: dict[str, Any], field: str, value: Any) -> None:
    assert changed(**flags)[field] == value


def test_an_entrypoint_takes_the_command_with_it() -> None:
    assert changed(entrypoint="sh -c 'a b'")["entrypoint"] == ["sh", "-c", "a b"]
    assert changed(entrypoint="sh")["command"] == []
    assert changed(("x",), entrypoint="sh")["command"] == ["x"]
    assert "command" not in changed()


def test_what_run_refuses() -> None:
    with pytest.raises(UsageError, match="--publish"):
        changed(publish=["eighty"])


# attach and run: keys, records


@pytest.mark.parametrize(
    ("typed", "passed"),
    [([b"ab"], b"ab"), ([b"a\x10", b"b"], b"a\x10b"), ([b"\x10", b"\x10x"], b"\x10\x10x")],
)
def test_keys_that_do_not_detach_are_passed_on(typed: list[bytes], passed: bytes) -> None:
    keys = Keys(detach_keys("ctrl-p,ctrl-q"))
    assert b"".join(map(keys.feed, typed)) == passed


def test_keys_that_detach() -> None:
    keys = Keys(detach_keys("ctrl-p,ctrl-q"))
    assert keys.feed(b"ls\x10") == b"ls"
    with pytest.raises(Detached):
        keys.feed(b"\x11")


def test_records_become_the_bytes_that_were_printed() -> None:
    when = b"2026-01-31T13:00:00.123456789Z"
    records = [
        when + b" stdout P no newline, ",
        when + b" stdout F then one",
        when + b" stderr F \xff bad",
        when + b" stdout F ",
    ]
    assert runs(records) == [(1, b"no newline, then one\n"), (2, b"\xff bad\n"), (1, b"\n")]


# why


def row(service: str, state: str, code: int = 0, **more: Any) -> ContainerRow:
    plan = {"stopped": False, "oom": False, "restart": {"condition": "no"}, "health": None}
    made: Any = {
        "name": f"app-{service}-1", "service": service, "number": 1, "oneoff": False, "state": state,
        "exit_code": code, "health": "", "reason": "", "restarts": 0, "finished_at": 1, "plan": plan,
        "started_at": 1 if state != "created" else 0, **more,
    }  # fmt: skip
    return made  # type: ignore[no-any-return]


NEEDS: dict[str, Any] = {
    "web": {"depends_on": {"api": {}, "migrate": {"condition": "service_completed_successfully"}}},
    "api": {"depends_on": {"db": {"condition": "service_healthy"}}},
    "db": {},
    "migrate": {},
}


@pytest.mark.parametrize(
    ("rows", "chain"),
    [
        ([], ["web waiting", "api waiting", "db bad"]),
        ([row("web", "running")], ["web good"]),
        ([row("web", "created"), row("api", "running"), row("migrate", "exited", 3)],
         ["web waiting", "migrate bad"]),
        ([row("web", "created"), row("api", "created"), row("db", "running", health="starting")],
         ["web waiting", "api waiting", "db waiting"]),
        ([row("web", "exited", 1), row("db", "exited", 1)], ["web bad"]),
        ([row("web", "paused")], ["web bad"]),
        ([row("web", "exited", 0)], ["web good"]),
    ],
)  # fmt: skip
def test_the_chain_ends_where_the_cause_is(rows: list[ContainerRow], chain: list[str]) -> None:
    assert [f"{link.service} {link.finding.state}" for link in why.chase(NEEDS, rows, "web")] == chain


def test_services_that_wait_for_each_other_end() -> None:
    services: dict[str, Any] = {"a": {"depends_on": {"b": {}}}, "b": {"depends_on": {"a": {}}}}
    assert [link.service for link in why.chase(services, [], "a")] == ["a", "b"]


@pytest.mark.parametrize(
    ("code", "word"), [(127, "PATH"), (126, "architecture"), (137, "killed"), (1, "look")]
)
def test_advice_fits_the_exit_code(code: int, word: str) -> None:
    assert word in why.inspect(row("web", "exited", code)).tries[0]


# completion


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pau"], ["pause"]),
        (["--progr"], ["--progress"]),
        (["--progress", "p"], ["plain"]),
        (["-f"], []),
        (["-f", ""], [":files"]),
        (["image", "hi"], ["history"]),
        (["ps", "--status", "ex"], ["exited"]),
        (["up", "--wait-"], ["--wait-timeout"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_offers(words: list[str], offered: list[str]) -> None:
    assert [word for word, _ in complete.offers(words)] == offered


# numbers


def test_cpu_is_the_share_between_two_samples() -> None:
    before, now = {"cpu": {"usage": 1_000_000_000}}, {"cpu": {"usage": 2_500_000_000}}
    assert stats.cpu(before, now, 1.0) == pytest.approx(150)
    assert stats.cpu(None, {"cpu": {"usage": 10**9}}, 2.0) == pytest.approx(50)
    assert stats.cpu(now, before, 1.0) == 0
    assert stats.cpu(before, None, 1.0) == 0


@pytest.mark.parametrize(("number", "name"), [(0, "?"), (34816, "pts/0"), (34816 + 5, "pts/5"), (1025, "?")])
def test_terminals_by_number(number: int, name: str) -> None:
    assert top.terminal(number) == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("alpine", ("alpine", "latest")),
        ("alpine:3", ("alpine", "3")),
        ("host:5000/a", ("host:5000/a", "latest")),
        ("host:5000/a:1@sha256:0", ("host:5000/a", "1")),
        ("a@sha256:0", ("a", "<none>")),
    ],
)
def test_split_of_references(text: str, parts: tuple[str, str]) -> None:
    assert images.split(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web:/etc", ("web", "/etc")),
        ("web:etc", ("web", "/etc")),
        ("./a:b", ("", "./a:b")),
        ("/a:b", ("", "/a:b")),
        ("dir/x:y", ("", "dir/x:y")),
        ("-", ("", "-")),
    ],
)
def test_split_of_places(text: str, parts: tuple[str, str]) -> None:
    assert copy.split(text) == parts


def test_a_finding_that_is_not_good_has_a_remedy(tmp_path: Any) -> None:
    """Whatever this host is like."""
    from composer.paths import Paths

    paths = Paths(tmp_path / "run", tmp_path / "state")
    for check in (checks.kernel, checks.rights, checks.cgroups, checks.disk, checks.limits, checks.leftovers):
        for found in check(paths):
            assert found.state == "good" or found.remedy


def test_a_process_that_has_ended_is_none() -> None:
    """By the time its pid comes it may be over: the supervisor says 0 then."""
    from composer.api.process import open_process, send

    assert open_process(0) == -1
    send(-1, 15)

"""Which entry of a field changed: the phrases that `plan` prints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.model.stack import (
    SECOND,
    Attachment,
    FileGrant,
    FrozenMap,
    Healthcheck,
    Logging,
    Mount,
    Port,
    Resources,
    Service,
)
from composer.plan.details import LONGEST, MOST, details
from tests.plan.worlds import desired, plan, service, settled


def made(field: str, value: Any) -> Service:
    return Service("s").replace(**{field: value})


def env(**values: str | None) -> FrozenMap:
    return FrozenMap(values)


CHECK = Healthcheck(("CMD", "x"), interval=SECOND)
GRANT = FileGrant("a", "/a")
PLAIN = Attachment()
BIND = Mount("bind", "/data", "/srv/a")

TABLE = [
    ("environment", env(DEBUG="0"), env(DEBUG="1"), ['environment.DEBUG "0" → "1"']),
    ("environment", env(), env(DEBUG="1"), ['environment.DEBUG "1" added']),
    ("environment", env(DEBUG="1"), env(), ["environment.DEBUG removed"]),
    ("environment", env(A="x"), env(A=None), ['environment.A "x" → unset']),
    ("labels", env(**{"a.b": "1"}), env(**{"a.b": "2"}), ['labels.a.b "1" → "2"']),
    ("tty", False, True, ["tty false → true"]),
    ("user", "", "app", ['user "" → "app"']),
    ("command", ("a", "b"), ("a", "c"), ['command ["a", "b"] → ["a", "c"]']),
    ("cap_add", ("A", "B"), ("B", "C"), ['cap_add "A" removed', 'cap_add "C" added']),
    ("dns", ("1.1.1.1", "8.8.8.8"), ("8.8.8.8", "1.1.1.1"), ["dns in another order"]),
    ("ports", (Port(80, "8080"),), (Port(80, "8081"),), ['ports.80/tcp.published "8080" → "8081"']),
    ("ports", (), (Port(80, "8080"),), ["ports 80/tcp added"]),
    ("ports", (Port(80, "1"), Port(80, "2")), (), ["ports 80/tcp removed"] * 2),
    ("volumes", (BIND,), (BIND.replace(source="/srv/b"),), ['volumes./data.source "/srv/a" → "/srv/b"']),
    ("volumes", (BIND,), (BIND.replace(target="/d"),), ["volumes /data removed", "volumes /d added"]),
    ("configs", (GRANT,), (GRANT.replace(mode=0o400),), ["configs./a.mode 0444 → 0400"]),
    ("networks", FrozenMap(a=PLAIN), FrozenMap(b=PLAIN), ["networks.a removed", "networks.b added"]),
    (
        "networks",
        FrozenMap(a=PLAIN.replace(aliases=("x",))),
        FrozenMap(a=PLAIN.replace(aliases=("y",))),
        ['networks.a.aliases "x" removed', 'networks.a.aliases "y" added'],
    ),
    ("healthcheck", None, CHECK, ["healthcheck added"]),
    ("healthcheck", CHECK, CHECK.replace(interval=2 * SECOND), ["healthcheck.interval 1s → 2s"]),
    ("resources", Resources(), Resources(memory=64 << 20), ["resources.memory 0 → 64m"]),
    ("logging", Logging(), Logging("syslog"), ['logging.driver "" → "syslog"']),
]  # fmt: skip


@pytest.mark.parametrize(("field", "before", "after", "told"), TABLE, ids=[" ".join(row[3]) for row in TABLE])
def test_phrases(field: str, before: object, after: object, told: list[str]) -> None:
    assert details(field, made(field, before), made(field, after)) == told


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("environment", env(DB_PASSWORD="opensesame"), env(DB_PASSWORD="hunter2")),
        ("environment", env(API_KEY="opensesame"), env()),
        ("environment", env(), env(GITHUB_TOKEN="hunter2")),
        ("environment", env(DB="postgres://u:opensesame@db/x"), env(DB="postgres://u:hunter2@db/x")),
        ("logging", Logging("splunk", env(token="opensesame")), Logging("splunk", env(token="hunter2"))),
        ("command", ("redis", "--requirepass", "opensesame"), ("redis", "--requirepass", "hunter2")),
    ],
)
def test_what_is_likely_to_be_secret_is_not_shown(field: str, before: object, after: object) -> None:
    found = "; ".join(details(field, made(field, before), made(field, after)))
    assert field in found and "opensesame" not in found and "hunter2" not in found


def test_many_entries_are_counted_and_long_values_cut() -> None:
    many = FrozenMap({f"V{number:02}": "1" for number in range(20)})
    told = details("environment", Service("s"), Service("s", environment=many))
    assert len(told) == MOST and told[-1] == "16 more of environment"
    long = "x" * 500
    [cut] = details("command", Service("s", command=(long, "a")), Service("s", command=(long, "b")))
    assert len(cut) < 3 * LONGEST and cut.endswith('"b"]') and '"a"]' in cut


def test_a_terminal_is_told_nothing_by_values() -> None:
    [told] = details("user", Service("s", user="a\x1b[2J"), Service("s", user="b"))
    assert "\x1b" not in told


TEXTS = st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5), max_size=4).map(FrozenMap)


@given(TEXTS, TEXTS)
def test_every_difference_is_told(before: FrozenMap, after: FrozenMap) -> None:
    told = details("environment", Service("s", environment=before), Service("s", environment=after))
    assert bool(told) == (before != after)


def test_a_plan_names_the_entry() -> None:
    old = service("web", environment=env(A="1"), labels=env(x="1"))
    new = desired(service("web", environment=env(A="2"), labels=env(x="1")))
    world = settled(desired(old))
    assert "recreate: environment changed" in plan(new, world)
    known = world.replace(made=FrozenMap({container.name: old for container in world.containers}))
    assert 'web-1 stop: recreate: environment.A "1" → "2"' in plan(new, known)
    live = desired(old.replace(restart=old.restart.replace(condition="always")))
    assert 'web-1 update: restart.condition "no" → "always"' in plan(live, known)

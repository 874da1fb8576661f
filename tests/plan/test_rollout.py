"""Updates a few at a time: whose turn it is, what happens when one fails, and successors that take over."""

from __future__ import annotations

from typing import Any

import pytest

from composer.model.stack import Attachment, FrozenMap, Service, UpdateConfig
from composer.plan import rollout
from composer.plan.health import Health
from composer.plan.observed import Observed
from composer.plan.options import Desired
from tests.plan.worlds import (
    NOW,
    SINCE,
    changed,
    container,
    desired,
    now,
    options,
    plan,
    service,
    settled,
    slots,
    states,
    text,
)

SECOND = 10**9


def web(scale: int = 1, tty: bool = False, fields: dict[str, Any] | None = None, **config: Any) -> Desired:
    update = UpdateConfig(**config)
    return desired(service("web", scale=scale, tty=tty, update_config=update, **(fields or {})))


def changing(scale: int, **config: Any) -> tuple[Desired, Observed]:
    """A desire that differs from what runs."""
    return web(scale, True, **config), settled(web(scale, **config))


def test_stop_first_one_after_the_other() -> None:
    assert plan(*changing(2)) == text("""
        web-1 stop: recreate: tty changed
        web-1 remove: recreate: tty changed
        web-1 create: missing
        web-1 start: created
        web-2 stop: recreate: tty changed
        web-2 remove: recreate: tty changed
        web-2 create: missing
        web-2 start: created
    """)


@pytest.mark.parametrize(("parallelism", "first"), [(1, 1), (2, 2), (3, 3), (0, 4), (9, 4)])
def test_parallelism(parallelism: int, first: int) -> None:
    want, world = changing(4, parallelism=parallelism)
    assert now(want, world).count(" stop: ") == first


def test_start_first_begins_the_new_beside_the_old() -> None:
    assert plan(*changing(1, order="start-first")) == text("""
        web-2 create: to take over
        web-2 start: created
        web-2 take over: ready
        web-1 stop: recreate: tty changed
        web-1 remove: recreate: tty changed
    """)


def test_start_first_goes_back_to_the_lowest_free_number() -> None:
    want, world = changing(1, order="start-first")
    after = settled(want, world, options(), NOW)
    assert slots(after) == ["web-2"]
    assert plan(want, after, options().replace(since=NOW)) == ""
    again = web(1, False, order="start-first")
    assert slots(settled(again, after, options().replace(since=NOW + 1), NOW + 1)) == ["web-1"]


def test_the_old_one_stays_until_the_new_one_is_healthy() -> None:
    want, world = changing(1, order="start-first")
    started = changed(settled_until(want, world, " start:"), "web-2", health=Health())
    assert now(want, started) == "web-1 waits: its turn in the update"
    healthy = changed(started, "web-2", health=Health(status="healthy", turned=NOW))
    assert now(want, healthy).startswith("web-2 take over: ready")


def settled_until(want: Desired, world: Observed, word: str) -> Observed:
    """The world once the plan has come to an action of that kind."""
    from composer.plan.actions import describe
    from composer.plan.predict import predict
    from composer.plan.step import step

    while True:
        for action in step(want, world, options(), NOW).actions:
            world = predict(world, action, "s", NOW)
            if word in describe(action):
                return world


@pytest.mark.parametrize(
    "fields",
    [
        {"container_name": "one"},
        {"mac_address": "02:00:00:00:00:01"},
        {"networks": FrozenMap(default=Attachment(ipv4_address="10.0.0.9"))},
    ],
)
def test_what_can_be_there_only_once_is_stopped_first(fields: dict[str, Any]) -> None:
    assert not rollout.overlaps(Service("web", update_config=UpdateConfig(order="start-first"), **fields))


def test_a_sick_successor_pauses_the_update_and_the_old_one_goes_on() -> None:
    want, world = changing(1, order="start-first")
    sick = changed(settled_until(want, world, " start:"), "web-2", health=Health(status="unhealthy"))
    assert now(want, sick) == "web-1 failed: the update is paused: web-2 is unhealthy"
    assert states(sick) == {"web-1": "running", "web-2": "running"}


def test_the_next_wish_makes_a_sick_successor_again() -> None:
    want, world = changing(1, order="start-first")
    sick = changed(settled_until(want, world, " start:"), "web-2", health=Health(status="unhealthy"))
    later = options().replace(since=NOW + 1)
    assert plan(want, sick, later, NOW + 2) == text("""
        web-2 stop: recreate: it was never well
        web-2 remove: recreate: it was never well
        web-2 create: to take over
        web-2 start: created
        web-2 take over: ready
        web-1 stop: recreate: tty changed
        web-1 remove: recreate: tty changed
    """)


@pytest.mark.parametrize(
    ("action", "ratio", "expected"),
    [
        ("pause", 0.0, "web-2 failed: the update is paused: web-1 exited (3)"),
        ("continue", 0.0, "web-2 stop: recreate: tty changed"),
        ("pause", 0.5, "web-2 stop: recreate: tty changed"),
        ("rollback", 0.0, "service web roll back: web-1 exited (3)\nweb-2 waits: its turn in the update"),
    ],
)
def test_when_one_fails(action: str, ratio: float, expected: str) -> None:
    want, world = changing(2, failure_action=action, max_failure_ratio=ratio)
    started = settled_until(want, world, "web-1 start:")
    failed = changed(started, "web-1", state="exited", exit_code=3, finished_at=NOW)
    assert now(want, failed) == expected


def test_a_crash_loop_is_a_failure() -> None:
    want, world = changing(2)
    started = settled_until(want, world, "web-1 start:")
    assert "the update is paused: web-1" in now(want, changed(started, "web-1", restarts=1))


@pytest.mark.parametrize("config", [{"monitor": 5 * SECOND}, {"delay": 5 * SECOND}])
def test_a_pause_between_two(config: dict[str, int]) -> None:
    want, world = changing(2, **config)
    started = settled_until(want, world, "web-1 start:")
    assert now(want, started) == "web-2 waits: its turn in the update"
    assert now(want, started, at=NOW + 5 * SECOND) == "web-2 stop: recreate: tty changed"


def test_scaling_down_takes_the_old_ones_first() -> None:
    want, world = web(1, True, order="start-first"), settled(web(3, order="start-first"))
    after = settled(want, world, options(), NOW)
    assert len(slots(after)) == 1
    assert container(after, slots(after)[0]).created_at >= SINCE


@pytest.mark.parametrize("scale", [1, 2, 5])
@pytest.mark.parametrize("parallelism", [0, 1, 2])
def test_start_first_never_serves_with_less(scale: int, parallelism: int) -> None:
    """After every single action as many as wanted serve, and at most `parallelism` more are there."""
    from composer.plan.predict import hopeful, predict
    from composer.plan.step import step

    want, world = changing(scale, order="start-first", parallelism=parallelism)
    for _ in range(200):
        found = step(want, world, options(), NOW)
        if found.settled:
            break
        for action in found.actions[:1]:
            world = predict(world, action, "s", NOW)
            serving = [c for c in world.containers if c.alive and not c.standby and not c.retired]
            assert len(serving) >= scale
            assert len(world.containers) <= scale + (parallelism or scale)
        world = hopeful(want, world)
    assert len(slots(world)) == scale
    assert not any(c.standby or c.retired for c in world.containers)

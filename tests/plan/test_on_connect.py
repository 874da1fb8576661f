"""Services that start with a connection and rest without it: when they wait, and when they do not."""

from __future__ import annotations

from composer.model.stack import SECOND, UpdateConfig
from composer.plan.health import Health
from composer.plan.observed import Observed
from composer.plan.options import Options
from composer.plan.step import step
from tests.plan.worlds import (
    BEFORE,
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
    states,
    text,
)

WEB = service("web", "db", on_connect=True)


def test_up_makes_it_and_holds_its_ports() -> None:
    """What it depends on is no such service, and starts."""
    want = desired(WEB, service("db"))
    assert plan(want, Observed(images=settled(want).images)) == text("""
        network default create: missing
        db-1 create: missing
        web-1 create: missing
        db-1 start: created
        web-1 await a connection: x-start: on-connect
    """)
    after = settled(want)
    assert container(after, "web-1").waiting
    assert plan(want, after) == ""


def test_who_is_needed_does_not_wait() -> None:
    want = desired(service("app", "web"), WEB, service("db", on_connect=True))
    assert states(settled(want)) == {"app-1": "running", "web-1": "running", "db-1": "running"}


def test_who_is_only_needed_by_one_that_waits_waits() -> None:
    want = desired(WEB, service("db", on_connect=True))
    after = settled(want)
    assert [each.waiting for each in after.containers] == [True, True]
    assert plan(want, after, options("start", "web")) == text("""
        db-1 start: created
        web-1 start: created
    """)


def test_a_new_dependent_starts_what_waits() -> None:
    after = settled(desired(service("db", on_connect=True)))
    want = desired(service("web", "db:healthy"), service("db", on_connect=True))
    assert "db-1 start: created" in plan(want, after)


def test_the_verbs() -> None:
    want = desired(service("web", on_connect=True))
    waiting = settled(want)
    running = settled(want, waiting, options("start", "web"))
    assert not container(running, "web-1").gated
    stopped = settled(want, running, options("stop"))
    assert plan(want, waiting, options("start")) == plan(want, waiting, options("restart")) == ""
    assert plan(want, waiting, options("restart", "web")) == "web-1 start: created"
    assert plan(want, running, options("up")) == ""
    ran = changed(running, "web-1", begun_at=BEFORE)
    assert plan(want, ran, options("restart")) == "web-1 stop: restart\nweb-1 start: stopped (143)"
    assert plan(want, waiting, options("stop")) == "web-1 stop: stop"
    assert plan(want, stopped) == "web-1 await a connection: x-start: on-connect"
    assert plan(want, waiting, options("down")).startswith("web-1 remove: down")


def test_a_service_that_no_longer_waits_starts() -> None:
    waiting = settled(desired(service("web", on_connect=True)))
    assert plan(desired(service("web")), waiting) == "web-1 start: created"


def test_a_paced_update_of_one_that_waits_ends() -> None:
    pace = UpdateConfig(parallelism=1, order="start-first")
    waiting = settled(desired(service("web", on_connect=True, update_config=pace, scale=2)))
    want = desired(service("web", on_connect=True, update_config=pace, scale=2, user="1"))
    after = settled(want, waiting, options())
    assert [each.waiting for each in after.containers] == [True, True]


def test_it_is_frozen_once_it_is_due() -> None:
    """Whatever the goal; a person's patience goes before the service's."""
    want = desired(service("web", idle=10 * SECOND))
    used = changed(settled(want), "web-1", used_at=NOW)
    found = step(want, used, Options(), NOW)
    assert (found.actions, found.wake_at) == ((), NOW + 10 * SECOND)
    assert now(want, used, Options(), NOW + 10 * SECOND) == "web-1 freeze: nobody used it for 10s"
    asked = changed(used, "web-1", idle_after=SECOND)
    assert now(want, asked, Options(), NOW + SECOND) == "web-1 freeze: nobody used it for 1s"
    late = NOW + 100 * SECOND
    assert now(want, changed(used, "web-1", gated=True, state="paused"), Options(), late) == ""
    assert now(want, changed(used, "web-1", state="paused"), Options(), late) == ""
    assert now(want, changed(used, "web-1", gated=True), Options(), late) == ""
    assert now(desired(service("web")), used, Options(), late) == ""


def test_it_is_not_frozen_before_it_is_ready() -> None:
    """Frozen it would never become healthy, and its start would be waited for for ever."""
    want = desired(service("web", idle=SECOND))
    due, late = changed(settled(want), "web-1", used_at=NOW), NOW + 100 * SECOND
    assert now(want, changed(due, "web-1", health=Health()), Options(), late) == ""
    assert now(want, changed(due, "web-1", standby=True), Options(), late) == ""
    healthy = changed(due, "web-1", health=Health(status="healthy", turned=late))
    assert step(want, healthy, Options(), late).wake_at == late + SECOND


def test_its_policy_brings_it_back_without_a_connection() -> None:
    """It had one."""
    want = desired(service("web", on_connect=True, restart="always"))
    crashed = changed(
        settled(want), "web-1", state="exited", exit_code=1, begun_at=SINCE, finished_at=BEFORE, gated=False
    )
    assert plan(want, crashed, Options(), NOW + SECOND) == "web-1 restart: exited (1), restart: always"

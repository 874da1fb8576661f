"""Plans of every other goal, as text."""

from __future__ import annotations

from typing import Any

import pytest

from composer.model.stack import Build, FrozenMap, Hook, Network, RestartPolicy, UnhealthyRestart, Volume
from composer.plan.actions import RemoveContainer, StopContainer
from composer.plan.health import Health
from composer.plan.observed import ImageState, NetworkState, Observed, VolumeState
from composer.plan.options import Options
from composer.plan.predict import simulate
from composer.plan.restart import next_restart
from composer.plan.step import step
from tests.plan.worlds import (
    BEFORE,
    NOW,
    SINCE,
    changed,
    container,
    desired,
    named,
    now,
    options,
    plan,
    service,
    settled,
    states,
    text,
)

WEB_DB = desired(service("web", "db"), service("db", volumes=(named("data"),)))


def test_down_takes_everything_in_reverse() -> None:
    assert plan(WEB_DB, settled(WEB_DB), options("down")) == text("""
        web-1 stop: down
        db-1 stop: down
        web-1 remove: down
        db-1 remove: down
        network default remove: down
    """)


def test_down_with_volumes_leaves_nothing() -> None:
    after = settled(WEB_DB, settled(WEB_DB), options("down", volumes=True), NOW)
    assert after.replace(images=FrozenMap()) == Observed()
    actions = simulate(WEB_DB, settled(WEB_DB), options("down", volumes=True), NOW)
    assert all(action.volumes for action in actions if isinstance(action, RemoveContainer))


def test_down_of_some_takes_their_dependents_and_leaves_what_is_used() -> None:
    want = desired(service("web", "db"), service("db"), service("other"))
    assert plan(want, settled(want), options("down", "db")) == text("""
        web-1 stop: down
        db-1 stop: down
        web-1 remove: down
        db-1 remove: down
    """)


def test_down_leaves_orphans_and_the_networks_they_use() -> None:
    want = desired(service("web"))
    world = settled(desired(service("web"), service("old")))
    assert plan(want, world, options("down")) == "web-1 stop: down\nweb-1 remove: down"
    after = settled(want, world, options("down", remove_orphans=True), NOW)
    assert not after.containers
    assert not after.networks


def test_down_touches_nothing_of_others() -> None:
    others = {"theirs": NetworkState("theirs", owner="them"), "s_ext": NetworkState("s_ext", owner="")}
    volumes = {"theirs": VolumeState("theirs", owner="them"), "s_ext": VolumeState("s_ext", owner="")}
    want = desired(
        service("web", volumes=(named("ext"),)),
        networks=FrozenMap(default=Network("default", "s_ext", external=True)),
        volumes=FrozenMap(ext=Volume("ext", "s_ext", external=True)),
    )
    world = settled(want, Observed(networks=others, volumes=volumes))
    after = settled(want, world, options("down", volumes=True, remove_orphans=True), NOW)
    assert (after.networks, after.volumes) == (others, volumes)


@pytest.mark.parametrize(("which", "gone"), [("", []), ("local", ["s-web"]), ("all", ["s-web", "app:1"])])
def test_down_takes_images_if_asked(which: Any, gone: list[str]) -> None:
    want = desired(service("web", image="", build=Build(".")), service("db"), service("sys", image="host"))
    world = settled(want, Observed(images=FrozenMap(host=ImageState("host"))))
    after = settled(want, world, options("down", images=which), NOW)
    assert sorted(world.images.keys() - after.images.keys()) == sorted(gone)


def test_one_offs_go_with_their_service() -> None:
    want = desired(service("web"))
    world = settled(want)
    oneoff = container(world, "web-1").replace(name="s-web-run-1", oneoff=True)
    world = world.replace(containers=(*world.containers, oneoff))
    assert "s-web-run-1 stop: down" in plan(want, world, options("down"))
    assert "s-web-run-1 stop: stop" in plan(want, world, options("stop"))
    assert plan(want, world) == ""
    ended = world.replace(containers=(*settled(want).containers, oneoff.replace(state="exited")))
    assert plan(want, ended) == ""
    assert plan(want, ended, options(remove_orphans=True)) == "s-web-run-1 remove: one-off"


def test_stop_is_in_reverse_and_stays_so() -> None:
    want = desired(service("web", "db", restart="always"), service("db", restart="always"))
    assert plan(want, settled(want), options("stop")) == "web-1 stop: stop\ndb-1 stop: stop"
    after = settled(want, settled(want), options("stop"), NOW)
    assert now(want, after, Options(), NOW * 10**9) == ""
    assert now(want, settled(want), options("stop", "db")) == "db-1 stop: stop"


def test_stop_ends_a_crash_loop_too() -> None:
    want = desired(service("web", restart="always"))
    looping = changed(settled(want), "web-1", state="exited", exit_code=1, finished_at=NOW, restarts=3)
    assert plan(want, looping, options("stop")) == "web-1 stop: stop"
    after = settled(want, looping, options("stop"), NOW)
    assert container(after, "web-1").exit_code == 1
    assert step(want, after, Options(), NOW).wake_at is None


def test_stopping_takes_time_and_patience() -> None:
    hook = Hook(("drain",))
    want = desired(service("web", stop_signal="SIGINT", stop_grace_period=7, pre_stop=(hook,)))
    (action,) = step(want, settled(want), options("stop"), NOW).actions
    assert isinstance(action, StopContainer)
    assert (action.signal, action.grace, action.hooks, action.again) == ("SIGINT", 7, (hook,), False)
    (action,) = step(want, settled(want), options("stop", timeout=0), NOW).actions
    assert isinstance(action, StopContainer)
    assert action.grace == 0
    stopping = changed(settled(want), "web-1", kill_at=NOW + 7, stopped=True)
    for goal in ("stop", "down", "keep", "up"):
        found = step(want, stopping, options(goal), NOW)
        assert (found.actions, found.wake_at, found.settled) == ((), NOW + 7, False)
        assert now(want, stopping, options(goal), NOW + 7) == "web-1 kill: did not stop in time"


def test_a_later_wish_with_less_patience_ends_the_waiting() -> None:
    """A second Ctrl-C: what is stopping for seven more is killed at once."""
    want = desired(service("web", stop_grace_period=NOW))
    stopping = changed(settled(want), "web-1", kill_at=NOW + 7, patience=NOW, stopped=True)
    assert now(want, stopping, options("stop", timeout=0), NOW) == "web-1 kill: did not stop in time"


def test_every_container_has_the_whole_timeout() -> None:
    """A dependency is asked to stop late in a wish: its patience counts from then, not from the wish."""
    want = desired(service("web", "db"), service("db"))
    world = changed(settled(want), "web-1", state="exited", finished_at=NOW + 5, stopped=True)
    stopping = changed(world, "db-1", kill_at=NOW + 9, patience=4, stopped=True)
    found = step(want, stopping, options("stop", timeout=4), NOW + 5)
    assert (found.actions, found.wake_at) == ((), NOW + 9)


def test_start_begins_what_is_there_in_order() -> None:
    want = desired(service("web", "db"), service("db"))
    world = settled(want, settled(want), options("stop"), BEFORE)
    assert plan(want, world, options("start", "web")) == text("""
        db-1 start: stopped (143)
        web-1 start: stopped (143)
    """)


def test_start_recreates_nothing() -> None:
    newer = desired(service("web", tty=True))
    world = settled(desired(service("web")), None, None)
    assert plan(newer, world, options("start")) == ""


def test_start_of_what_does_not_exist_fails() -> None:
    want = desired(service("web", "db"), service("db"))
    only_web = settled(desired(service("web")))
    only_web = changed(only_web, "web-1", state="exited")
    assert now(want, only_web, options("start")) == text("""
        db-1 failed: service "db" has no container to start
        web-1 failed: dependency failed to start: service db has no container
    """)


def test_restart_begins_everything_again_in_order() -> None:
    want = desired(service("web", "db"), service("db"))
    assert plan(want, settled(want), options("restart")) == text("""
        web-1 stop: restart
        db-1 stop: restart
        db-1 start: stopped (143)
        web-1 start: stopped (143)
    """)
    after = settled(want, settled(want), options("restart"), NOW)
    assert plan(want, after, options("restart")) == ""


@pytest.mark.parametrize(
    ("after", "flags", "expected"),
    [
        ("db", {}, "db-1 stop: restart\ndb-1 start: stopped (143)"),
        ("db:restart", {"no_deps": True}, "db-1 stop: restart\ndb-1 start: stopped (143)"),
        (
            "db:restart",
            {},
            "web-1 stop: restart\ndb-1 stop: restart\ndb-1 start: stopped (143)\nweb-1 start: stopped (143)",
        ),
    ],
)
def test_restart_of_one(after: str, flags: dict[str, bool], expected: str) -> None:
    want = desired(service("web", after), service("db"))
    assert plan(want, settled(want), options("restart", "db", **flags)) == expected


def test_restart_waits_for_conditions() -> None:
    want = desired(service("web", "db:healthy"), service("db"))
    world = settled(want)
    for name in ("web-1", "db-1"):
        world = changed(world, name, state="exited", stopped=True)
    world = changed(world, "db-1", state="running", begun_at=SINCE, health=Health())
    assert now(want, world, options("restart")) == "web-1 waits: db-1 to be healthy"


def test_rm_takes_what_has_ended() -> None:
    want = desired(service("web"), service("db"))
    world = changed(settled(want), "db-1", state="exited")
    assert plan(want, world, options("rm")) == "db-1 remove: rm"
    assert plan(want, world, options("rm", "web")) == ""


@pytest.mark.parametrize(
    ("policy", "fields", "starts"),
    [
        ("no", {}, False),
        ("always", {}, True),
        ("always", {"stopped": True}, True),
        ("unless-stopped", {}, True),
        ("unless-stopped", {"stopped": True}, False),
        ("on-failure", {"exit_code": 1}, True),
        ("on-failure", {"exit_code": 0}, False),
        ("always", {"begun_at": 0, "state": "created"}, False),
    ],
)
def test_boot_brings_back_what_its_policy_says(policy: str, fields: dict[str, Any], starts: bool) -> None:
    want = desired(service("web", restart=policy))
    world = changed(settled(want), "web-1", **{"state": "exited", "exit_code": 137, **fields})
    assert plan(want, world, options("boot")) == (f"web-1 start: restart: {policy}" if starts else "")


def test_boot_keeps_the_order() -> None:
    want = desired(service("web", "db:healthy", restart="always"), service("db", restart="always"))
    world = settled(want)
    for name in ("web-1", "db-1"):
        world = changed(world, name, state="exited", exit_code=137)
    assert now(want, world, options("boot")) == "db-1 start: restart: always\nweb-1 waits: db-1 to start"


def test_boot_does_not_wait_for_what_stays_down() -> None:
    want = desired(service("web", "db:healthy", restart="always"), service("db"))
    world = settled(want)
    for name in ("web-1", "db-1"):
        world = changed(world, name, state="exited", exit_code=137)
    assert plan(want, world, options("boot")) == "web-1 start: restart: always"


def test_keeping_restarts_by_policy_and_tells_when() -> None:
    want = desired(service("web", restart="always"))
    world = changed(settled(want), "web-1", state="exited", exit_code=1, finished_at=NOW, backoff=2 * 10**8)
    due = NOW + 4 * 10**8
    found = step(want, world, Options(), NOW)
    assert (found.actions, found.wake_at, found.settled) == ((), due, True)
    assert now(want, world, Options(), due) == "web-1 restart: exited (1), restart: always"


def test_keeping_looks_after_what_no_wish_is_about() -> None:
    want = desired(service("web"), service("db", restart="always"))
    old = desired(service("web"), service("db", restart="always"), service("old", restart="always"))
    world = settled(old)
    for name in ("db-1", "old-1"):
        world = changed(world, name, state="exited", finished_at=NOW)
    later = NOW + 10**9
    expected = "db-1 restart: exited (0), restart: always\nold-1 restart: exited (0), restart: always"
    assert now(want, world, options("up", "web"), later) == expected


@pytest.mark.parametrize(
    ("budget", "fields", "expected"),
    [
        (None, {}, ""),
        (UnhealthyRestart(), {"tries": 99}, "web-1 stop: unhealthy"),
        (UnhealthyRestart(attempts=2), {"tries": 1}, "web-1 stop: unhealthy"),
        (UnhealthyRestart(attempts=2), {"tries": 2}, ""),
        (UnhealthyRestart(attempts=2, window=10**10), {"tries": 2}, ""),
        (
            UnhealthyRestart(attempts=2, window=10**10),
            {"tries": 2, "started_at": -(10**10)},
            "web-1 stop: unhealthy",
        ),
    ],
)
def test_unhealthy_ones_are_restarted_within_their_budget(
    budget: UnhealthyRestart | None, fields: dict[str, Any], expected: str
) -> None:
    """A run that lasted for the window begins the count anew."""
    want = desired(service("web", restart_unhealthy=budget))
    world = changed(settled(want), "web-1", health=Health(status="unhealthy", turned=NOW), **fields)
    assert now(want, world, Options()) == expected


def test_an_unhealthy_one_comes_back_whatever_its_policy() -> None:
    want = desired(service("web", restart_unhealthy=UnhealthyRestart()))
    world = changed(settled(want), "web-1", health=Health(status="unhealthy"))
    assert plan(want, world, Options()) == text("""
        web-1 stop: unhealthy
        web-1 restart: exited (143), was unhealthy
    """)
    after = settled(want, world, Options(), NOW)
    assert container(after, "web-1").restarts == 1
    assert states(after) == {"web-1": "running"}


def test_who_is_unhealthy_again_and_again_waits_longer_each_time() -> None:
    want = desired(service("web", restart_unhealthy=UnhealthyRestart()))
    ended = {"state": "exited", "again": True, "started_at": NOW, "finished_at": NOW}
    at, delays = NOW, []
    world = changed(settled(want), "web-1", **ended)
    for _ in range(3):
        due = next_restart(container(world, "web-1"))
        assert due is not None
        delays.append(due.at - at)
        world = changed(world, "web-1", backoff=due.backoff)
    assert delays == [0, 10**8, 2 * 10**8]


def test_an_unhealthy_dependency_that_is_restarted_is_waited_for() -> None:
    want = desired(
        service("web", "db:healthy"), service("db", restart_unhealthy=UnhealthyRestart(attempts=1))
    )
    world = changed(settled(want), "db-1", health=Health(status="unhealthy"), begun_at=SINCE)
    world = changed(world, "web-1", state="created")
    assert now(want, world) == "db-1 stop: unhealthy\nweb-1 waits: db-1 to be restarted"
    spent = changed(world, "db-1", tries=1)
    assert now(want, spent).startswith("web-1 failed: dependency failed to start")


@pytest.mark.parametrize("goal", ["up", "down", "stop", "start", "restart", "rm", "boot", "keep"])
def test_nothing_there_and_nothing_wanted_is_fine(goal: str) -> None:
    want = desired()
    found = step(want, Observed(), options(goal), NOW)
    assert (found.actions, found.settled) == ((), True)


def test_names_that_do_not_exist_select_nothing() -> None:
    want = desired(service("web"))
    assert plan(want, settled(want), options("stop", "nobody")) == ""


def test_restart_policy_orphans_keep_theirs() -> None:
    old = desired(service("old", restart="always"))
    world = changed(settled(old), "old-1", state="exited", finished_at=0)
    assert container(world, "old-1").restart == RestartPolicy("always")
    assert plan(desired(), world, Options(), 10**9) == "old-1 restart: exited (0), restart: always"
